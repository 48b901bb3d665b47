"use strict";
(() => {
  // Every text goes into the page as text, never as HTML.
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");

  function hide() {
    tip.hidden = true;
    for (const mark of document.querySelectorAll(".m.current")) mark.classList.remove("current");
  }

  function show(figure, mark, line, x, y) {
    hide();
    mark.classList.add("current");
    tip.textContent = line;
    tip.hidden = false;
    tip.style.left = "0"; // its width depends on the room to its right
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + "px";
    figure.querySelector("output").textContent = line;
  }

  function timeline(figure) {
    const found = data.timelines[figure.dataset.timeline];
    const svg = figure.querySelector(".inner svg");
    const lanes = [...svg.querySelectorAll(".lane")].map((lane) => [...lane.children]);
    const spans = [...svg.querySelectorAll(".span")].map((span) =>
      [span, span.getAttribute("x"), span.getAttribute("width")]);
    const byIndex = new Map(lanes.flat().map((mark) => [mark.dataset.i, mark]));
    const ticks = [...figure.querySelectorAll(".axis span")].map((tick) =>
      [tick, tick.textContent, parseFloat(tick.style.left) / 100]);
    const length = Math.max(1, found.length);
    let byTime = false;
    let zoom = 1;

    const at = (index) => (found.at ? found.at[index] : index);
    const scaled = (time) => (time / Math.max(1, found.end)) * length;
    const x = (mark) =>
      byTime ? scaled(found.times[+mark.dataset.i]) : at(+mark.dataset.i) + 0.5;
    const line = (mark) => found.lines[+mark.dataset.i];

    function nearest(lane, where) {
      let best = null;
      let distance = Infinity;
      for (const mark of lanes[lane] || []) {
        const off = Math.abs(x(mark) - where);
        if (off < distance) [best, distance] = [mark, off];
      }
      return [best, distance];
    }

    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const lane = Math.floor(((event.clientY - box.top) / box.height) * lanes.length);
      const where = ((event.clientX - box.left) / box.width) * length;
      // A span that belongs to a mark speaks for it, wherever it is pointed at.
      const span = event.target.closest(".span[data-line]");
      const [mark, distance] = span ? [byIndex.get(span.dataset.line), 0] : nearest(lane, where);
      if (mark && (distance / length) * box.width <= 12) {
        show(figure, mark, line(mark), event.clientX, event.clientY);
      } else {
        hide();
      }
    });
    svg.addEventListener("pointerleave", hide);

    function reach(mark) {
      if (!mark) return;
      for (const other of svg.querySelectorAll(".m[tabindex='0']")) {
        if (other.parentNode === mark.parentNode) other.setAttribute("tabindex", "-1");
      }
      mark.setAttribute("tabindex", "0");
      mark.focus();
    }
    // Not on the svg: Chromium lets Tab stop at an svg that listens for focus.
    svg.parentNode.addEventListener("focusin", (event) => {
      const box = event.target.getBoundingClientRect();
      event.target.setAttribute("role", "img");
      event.target.setAttribute("aria-label", line(event.target));
      show(figure, event.target, line(event.target), box.left, box.bottom);
    });
    svg.parentNode.addEventListener("focusout", hide);
    svg.addEventListener("click", () => reach(svg.querySelector(".m.current")));
    svg.addEventListener("keydown", (event) => {
      const lane = lanes.findIndex((marks) => marks.includes(event.target));
      if (lane < 0) return;
      const here = lanes[lane].indexOf(event.target);
      const along = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10,
        Home: -Infinity, End: Infinity }[event.key];
      const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.key === "Escape") return hide();
      if (along === undefined && across === undefined) return;
      event.preventDefault();
      if (along !== undefined) {
        reach(lanes[lane][Math.max(0, Math.min(lanes[lane].length - 1, here + along))]);
        return;
      }
      let next = lane + across;
      while (lanes[next] && !lanes[next].length) next += across;
      if (lanes[next]) reach(nearest(next, x(event.target))[0]);
    });

    function place() {
      for (const mark of lanes.flat()) {
        const rest = mark.getAttribute("d").replace(/^M[\d.]+/, "");
        mark.setAttribute("d", "M" + x(mark) + rest);
      }
      for (const [span, x, width] of spans) {
        const from = scaled(+span.dataset.from);
        span.setAttribute("x", byTime ? from : x);
        span.setAttribute("width", byTime ? scaled(+span.dataset.to) - from : width);
      }
      for (const [tick, text, part] of ticks) {
        tick.textContent = byTime ? ((found.end * part) / 1e6).toFixed(1) + " ms" : text;
      }
    }
    for (const button of figure.querySelectorAll("[data-scale]")) {
      button.addEventListener("click", () => {
        byTime = button.dataset.scale === "time";
        for (const each of figure.querySelectorAll("[data-scale]")) {
          each.setAttribute("aria-pressed", String(each === button));
        }
        place();
      });
    }
    for (const button of figure.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        const scroll = figure.querySelector(".scroll");
        const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / scroll.scrollWidth;
        const factor = +button.dataset.zoom;
        zoom = factor ? Math.max(1, Math.min(1024, zoom * factor)) : 1;
        figure.style.setProperty("--zoom", zoom);
        scroll.scrollLeft = middle * scroll.scrollWidth - scroll.clientWidth / 2;
      });
    }
    const listing = figure.querySelector(".listing");
    listing.addEventListener("toggle", () => {
      const pre = listing.querySelector("pre");
      if (!pre.firstChild) pre.textContent = found.lines.join("\n");
    });
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const key = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const compare = (a, b) =>
      a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b, "en");
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        // Of a number one first wants to see the largest.
        const first = head.classList.contains("n") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const now = was === first ? other : first;
        for (const each of heads) each.setAttribute("aria-sort", each === head ? now : "none");
        const sign = now === "ascending" ? 1 : -1;
        const rows = [...body.rows];
        rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
        body.append(...rows);
      });
    });
  }

  document.querySelectorAll("figure.timeline").forEach(timeline);
  document.querySelectorAll("table.sortable").forEach(sortable);
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details:not(.listing)")) each.open = true;
  });
  document.documentElement.dataset.ready = "yes";
})();
