// What is known: each instrument with its threshold, and the way to forget it.

export class Classes {
  // ask(verb, arguments) -> promise; report(text, isBad)
  constructor(list, names, count, filter, ask, report) {
    Object.assign(this, { list, names, count, filter, ask, report });
    this.rows = new Map();
    this.pending = new Map();
    filter.addEventListener("input", () => this.sift());
  }

  update(listing) {
    const known = new Set(listing.classes.map((each) => each.name));
    for (const [name, row] of this.rows) {
      if (known.has(name)) continue;
      row.item.remove();
      row.option.remove();
      this.rows.delete(name);
    }
    for (const each of listing.classes) {
      const row = this.rows.get(each.name) ?? this.newRow(each.name);
      row.shots.textContent = `${each.n_shots} shot${each.n_shots === 1 ? "" : "s"}`;
      row.item.classList.toggle("own", each.has_threshold === true);
      if (typeof each.threshold === "number" && document.activeElement !== row.slider) {
        row.slider.value = each.threshold;
        row.output.textContent = each.threshold.toFixed(2);
      }
      row.threshold.hidden = typeof each.threshold !== "number";
      this.list.append(row.item); // in the listing's order
    }
    this.count.textContent = String(listing.classes.length);
    this.sift();
  }

  sift() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const [name, row] of this.rows) row.item.hidden = !name.toLowerCase().includes(wanted);
  }

  newRow(name) {
    const item = document.createElement("li");
    item.dataset.name = name;
    const title = document.createElement("span");
    title.className = "name";
    const shots = document.createElement("small");
    title.append(name, shots);
    const forget = document.createElement("button");
    forget.type = "button";
    forget.className = "forget";
    forget.textContent = "Forget";
    forget.setAttribute("aria-label", `Forget ${name}`);
    forget.addEventListener("click", () => this.forget(name));
    const threshold = document.createElement("div");
    threshold.className = "threshold";
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01 });
    slider.setAttribute("aria-label", `Threshold of ${name}`);
    const output = document.createElement("output");
    slider.addEventListener("input", () => (output.textContent = Number(slider.value).toFixed(2)));
    slider.addEventListener("change", () => this.setThreshold(name, Number(slider.value)));
    const reset = document.createElement("button");
    reset.type = "button";
    reset.className = "reset";
    reset.textContent = "Reset";
    reset.setAttribute("aria-label", `Let ${name} have the common threshold`);
    reset.addEventListener("click", () => this.setThreshold(name, null));
    threshold.append(slider, output, reset);
    item.append(title, forget, threshold);
    const option = document.createElement("option");
    option.value = name;
    this.names.append(option);
    const row = { item, shots, threshold, slider, output, option };
    this.rows.set(name, row);
    return row;
  }

  async forget(name) {
    try {
      await this.ask("forget", { name });
      this.report(`${name} is forgotten; Undo takes that back.`);
    } catch (error) {
      this.report(error.message, true);
    }
  }

  // Holding an arrow key changes the slider many times a second: the last value is sent.
  setThreshold(name, value) {
    clearTimeout(this.pending.get(name));
    this.pending.set(name, setTimeout(async () => {
      try {
        await this.ask("threshold", { name, value });
        this.report(
          value === null ? `${name} has the common threshold again.` : `${name} counts as heard from ${value.toFixed(2)} on.`,
        );
      } catch (error) {
        this.report(error.message, true);
      }
    }, 250));
  }
}
