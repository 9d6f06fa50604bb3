// Teaching: from what was just heard, or from a clip that is dropped or chosen.

const MAX_CLIP_BYTES = 64 * 2 ** 20;

export class Teach {
  // ask(verb, arguments) -> promise
  constructor(ask, report) {
    this.ask = ask;
    this.report = report;
    this.name = document.getElementById("teach-name");
    this.seconds = document.getElementById("teach-seconds");
    this.channel = document.getElementById("teach-channel");
    this.live = document.getElementById("teach-live");
    const file = document.getElementById("clip");
    document.getElementById("teach-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.learnLive();
    });
    document.getElementById("choose").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files.length) this.learnClip(file.files[0]);
      file.value = "";
    });
    this.takeDrops(document.getElementById("drop"));
  }

  setChannels(channels) {
    const shown = [...this.channel.options].map((option) => Number(option.value));
    if (shown.join() === channels.join()) return;
    this.channel.replaceChildren(...channels.map((channel) => new Option(String(channel), String(channel))));
    document.getElementById("teach-where").hidden = channels.length < 2;
  }

  async learnLive() {
    const wanted = { name: this.name.value.trim(), seconds: Number(this.seconds.value) };
    if (this.channel.value) wanted.channel = Number(this.channel.value);
    this.live.disabled = true;
    this.report("Learning…");
    try {
      const result = await this.ask("enroll_live", wanted);
      this.report(typeof result.report === "string" ? result.report : `${result.name} is learned.`);
    } catch (error) {
      this.report(error.message, true);
    } finally {
      this.live.disabled = false;
    }
  }

  async learnClip(clip) {
    // Without a name the clip's own does, without its suffix.
    const name = this.name.value.trim() || clip.name.replace(/\.[^.]*$/, "");
    if (clip.size > MAX_CLIP_BYTES) {
      this.report(`${clip.name} has more than ${MAX_CLIP_BYTES >> 20} MB: send a part of it`, true);
      return;
    }
    this.report(`Learning ${name} from ${clip.name}…`);
    try {
      const query = new URLSearchParams({ name, file: clip.name });
      const answer = await fetch(`/enroll?${query}`, { method: "POST", body: clip });
      const told = await answer.json().catch(() => ({ error: `mird web answered ${answer.status}` }));
      if (!answer.ok) throw new Error(told.error ?? `mird web answered ${answer.status}`);
      this.report(told.line);
    } catch (error) {
      this.report(error instanceof TypeError ? "mird web does not answer; is it running?" : error.message, true);
    }
  }

  takeDrops(zone) {
    const hasFile = (event) => event.dataTransfer?.types.includes("Files");
    // Beside the zone a dropped file would replace the page: the whole page takes it.
    addEventListener("dragover", (event) => {
      if (!hasFile(event)) return;
      event.preventDefault();
      zone.classList.add("over");
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) zone.classList.remove("over");
    });
    addEventListener("drop", (event) => {
      if (!hasFile(event)) return;
      event.preventDefault();
      zone.classList.remove("over");
      if (event.dataTransfer.files.length) this.learnClip(event.dataTransfer.files[0]);
    });
  }
}
