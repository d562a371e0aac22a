// The page of `syndiff view`: one NiiVue per image, linked; nothing is loaded from elsewhere.
"use strict";

(async () => {
  const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, DRAG_MODE, MULTIPLANAR_TYPE } = niivue;
  const byId = (id) => document.getElementById(id);
  const shown = JSON.parse(byId("case").textContent);
  const stage = byId("stage");
  const MODES = { side: "Side by side", over: "Overlay", wipe: "Wipe" };
  const PLANES = {
    all: ["All", SLICE_TYPE.MULTIPLANAR], axial: ["Axial", SLICE_TYPE.AXIAL],
    coronal: ["Coronal", SLICE_TYPE.CORONAL], sagittal: ["Sagittal", SLICE_TYPE.SAGITTAL],
    render: ["3D", SLICE_TYPE.RENDER],
  };
  const ROLES = { source: "Source", synthetic: "Synthetic", acquired: "Acquired" };
  const POSITIVE = "too_bright", NEGATIVE = "too_dark", UNSIGNED = "viridis";
  // From clear to opaque, so that small errors leave the image visible.
  const COLOURS = {
    [POSITIVE]: { R: [60, 220, 255], G: [0, 60, 230], B: [0, 20, 120], A: [0, 170, 255], I: [0, 128, 255] },
    [NEGATIVE]: { R: [0, 30, 120], G: [0, 90, 220], B: [60, 230, 255], A: [0, 170, 255], I: [0, 128, 255] },
  };
  const panes = [];
  const state = { mode: "side", plane: "all", mix: 50, mapMix: 80, map: "", above: 1, hidden: false };

  // ---- images -------------------------------------------------------------------------------

  /** The bytes of a volume: from this page if it holds them, else from where the page is from. */
  async function bytesOf(name) {
    const held = byId(name);
    if (!held) {
      const answer = await fetch(name);
      if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
      return answer.arrayBuffer();
    }
    const text = atob(held.textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    held.remove();
    return bytes.buffer;
  }

  const opened = new Map();
  /** A volume as NiiVue holds it; each is read once, and shown by one NiiVue only. */
  function volumeOf(name, colours = "gray", low = NaN, high = NaN) {
    if (!opened.has(name)) {
      opened.set(name, bytesOf(name).then((buffer) =>
        NVImage.new(buffer, name, colours, 1, null, low, high)));
    }
    return opened.get(name);
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  async function addPane(image, number) {
    const select = element("select", { "aria-label": `Window of ${image.title}` });
    image.windows.forEach((w, i) => select.append(element("option", { value: i }, w.name)));
    const own = element("option", { value: "own", hidden: "" }, "own");
    select.append(own);
    const limits = ["Black", "White"].map((end) =>
      element("input", { type: "number", step: "any", "aria-label": `${end} at, in ${image.unit}` }));
    const canvas = element("canvas", { tabindex: 0, "aria-label": `${ROLES[image.role]}: ${image.title}` });
    const picture = element("div", { class: "picture" }, canvas);
    const figure = element(
      "figure", { class: `pane ${image.synthetic ? "synthetic" : ""}`, "data-role": image.role },
      element("figcaption", {},
        element("strong", {}, image.synthetic ? image.title : `${ROLES[image.role]} ${image.title}`),
        element("span", { class: "file", title: image.file }, image.file === image.title ? "" : image.file),
        element("span", { class: "window" }, select, ...limits, image.unit)),
      picture);
    stage.append(figure);
    const nv = new Niivue({
      isRadiologicalConvention: true, isSliceMM: true, isColorbar: false, dragAndDropEnabled: false,
      backColor: [0, 0, 0, 1], crosshairColor: [0.36, 0.78, 1, 0.8], crosshairWidth: 0.4, crosshairWidthUnit: "percent",
      fontColor: [0.75, 0.8, 0.85, 1], show3Dcrosshair: true, dragMode: DRAG_MODE.contrast,
      multiplanarShowRender: SHOW_RENDER.ALWAYS, multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarPadPixels: 4, loadingText: "", logLevel: "error",
      viewModeHotKey: "none", clipPlaneHotKey: "none", cycleClipPlaneHotKey: "none",
    });
    await nv.attachToCanvas(canvas, false);
    for (const [name, colours] of Object.entries(COLOURS)) nv.addColormap(name, colours);
    const volume = await volumeOf(image.volume);
    nv.addVolume(volume);
    const pane = { image, number, nv, figure, picture, canvas, select, own, limits, volume };
    panes.push(pane);
    select.addEventListener("change", () => setWindow(pane, image.windows[Number(select.value)]));
    limits.forEach((input) => input.addEventListener("change", () => {
      const [low, high] = limits.map((i) => Number(i.value));
      if (high > low) setWindow(pane, { low, high });
    }));
    nv.onLocationChange = () => follow(pane);
    nv.onAzimuthElevationChange = () => turnLike(pane);
    nv.onIntensityChange = () => told(pane);
    setWindow(pane, image.windows[0]);
  }

  function setWindow(pane, wanted) {
    pane.volume.cal_min = wanted.low;
    pane.volume.cal_max = wanted.high;
    pane.nv.updateGLVolume();
    told(pane);
  }

  /** The window's name and ends beside the image, however it was set. */
  function told(pane) {
    const { cal_min: low, cal_max: high } = pane.volume;
    const place = pane.image.windows.findIndex((w) => near(w.low, low) && near(w.high, high));
    pane.select.value = place < 0 ? "own" : String(place);
    pane.own.hidden = place >= 0;
    pane.limits[0].value = brief(low);
    pane.limits[1].value = brief(high);
  }

  const near = (a, b) => Math.abs(a - b) <= 1e-4 * Math.max(1, Math.abs(a), Math.abs(b));
  const brief = (value) => String(Number(value.toPrecision(4)));

  // ---- the link between the images -------------------------------------------------------------

  let leading = false; // whether the others are following: they must not lead in turn
  function follow(pane) {
    if (leading) return;
    leading = true;
    const mm = pane.nv.frac2mm(pane.nv.scene.crosshairPos, 0, true);
    for (const other of panes) {
      if (other === pane) continue;
      other.nv.scene.crosshairPos = other.nv.mm2frac(mm, 0, true);
      other.nv.scene.pan2Dxyzmm = Array.from(pane.nv.scene.pan2Dxyzmm);
      if (visible(other)) other.nv.drawScene();
    }
    leading = false;
    sayValues(mm);
  }

  function turnLike(pane) {
    for (const { nv } of panes.filter((other) => other !== pane)) {
      nv.scene.renderAzimuth = pane.nv.scene.renderAzimuth;
      nv.scene.renderElevation = pane.nv.scene.renderElevation;
      nv.drawScene();
    }
  }

  const visible = (pane) => state.mode === "side" || pane.figure.matches(".above, .below");

  function valueAt(volume, mm) {
    const vox = volume.mm2vox(Array.from(mm).slice(0, 3));
    const inside = [0, 1, 2].every((i) => vox[i] >= 0 && vox[i] < volume.dimsRAS[i + 1]);
    return inside ? volume.getValue(vox[0], vox[1], vox[2], 0) : NaN;
  }

  const inWords = (value, unit) =>
    Number.isFinite(value)
      ? `${unit === "HU" ? Math.round(value) : Number(value.toPrecision(4))} ${unit}` : "outside";

  function sayValues(mm) {
    const axis = (value, positive, negative) =>
      `${Math.abs(value).toFixed(1)} ${value < 0 ? negative : positive}`;
    byId("place").textContent =
      `${axis(mm[0], "R", "L")} · ${axis(mm[1], "A", "P")} · ${axis(mm[2], "S", "I")} mm`;
    const rows = panes.map(({ image, volume }) =>
      [image.synthetic ? `Synthetic ${image.title}` : `${ROLES[image.role]} ${image.title}`,
        inWords(valueAt(volume, mm), image.unit)]);
    const map = currentMap();
    if (map && map.held) rows.push([map.title.split(":")[0], inWords(valueAt(map.held, mm), map.unit)]);
    byId("values").replaceChildren(...rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  const lead = () => panes.find(visible);
  function moveBy(x, y, z) {
    const pane = lead();
    pane.nv.moveCrosshairInVox(x, y, z);
    follow(pane);
  }

  // ---- how they are shown -----------------------------------------------------------------------

  function pairOf() {
    const above = Math.min(state.above, panes.length - 1);
    // The acquired image is what the synthetic one is compared with, where there is one.
    const below = panes.find((p, i) => i !== above && p.image.role === "acquired") || panes.find((p, i) => i !== above);
    return [below, panes[above]];
  }

  /** Stacked, both are drawn in the frame of the first image's grid: an unseen copy of it. */
  function framed(pane, stacked) {
    const wanted = stacked && !pane.image.sameGrid;
    if (wanted === Boolean(pane.frame)) return;
    // NiiVue keeps the crosshair as a fraction of the first volume, which changes here.
    const mm = pane.nv.frac2mm(pane.nv.scene.crosshairPos, 0, true);
    if (pane.frame) {
      pane.nv.removeVolume(pane.frame);
      pane.frame = null;
    } else {
      pane.frame = panes[0].volume.clone();
      pane.frame.opacity = 0;
      pane.nv.addVolume(pane.frame);
      pane.nv.setVolume(pane.frame, 0);
    }
    pane.nv.scene.crosshairPos = pane.nv.mm2frac(mm, 0, true);
  }

  function arrange() {
    const stacked = state.mode !== "side";
    const [below, above] = panes.length > 1 ? pairOf() : [];
    stage.dataset.mode = state.mode;
    for (const pane of panes) {
      pane.figure.classList.toggle("below", stacked && pane === below);
      pane.figure.classList.toggle("above", stacked && pane === above);
      pane.picture.style.opacity = "";
      pane.picture.style.clipPath = "";
      framed(pane, stacked);
      pane.nv.setSliceType(PLANES[state.plane][1]);
    }
    if (stacked) mixed(above);
    byId("wipe-line").hidden = state.mode !== "wipe" || state.hidden;
    byId("mix").hidden = !stacked;
    byId("pair").hidden = !stacked || panes.length < 3;
    byId("mix-name").textContent = state.mode === "wipe" ? "Wipe" : "Opacity";
    byId("mix-value").value = state.mix;
    pressed("modes", state.mode);
    pressed("planes", state.plane);
    for (const pane of panes) if (visible(pane)) pane.nv.resizeListener();
  }

  function mixed(above) {
    if (state.hidden) above.picture.style.opacity = "0";
    else if (state.mode === "over") above.picture.style.opacity = String(state.mix / 100);
    else above.picture.style.clipPath = `inset(0 0 0 ${state.mix}%)`;
    byId("wipe-line").style.marginLeft = `calc(${state.mix}% - 1px)`;
  }

  function pressed(group, wanted) {
    for (const button of byId(group).querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === wanted));
    }
  }

  // ---- maps -------------------------------------------------------------------------------------

  const currentMap = () => shown.overlays.find((map) => map.key === state.map);

  async function setMap(key) {
    for (const map of shown.overlays) {
      if (map.held && map.pane) map.pane.nv.removeVolume(map.held);
      map.pane = null;
    }
    state.map = key;
    byId("map").value = key;
    const map = currentMap();
    byId("map-mix").hidden = byId("bar").hidden = !map;
    if (map) {
      map.held = await volumeOf(map.volume);
      const held = map.held;
      held.colormap = map.signed ? POSITIVE : UNSIGNED;
      held.colormapNegative = map.signed ? NEGATIVE : "";
      held.colormapType = 1; // colours from zero on, transparent below cal_min
      held.cal_min = map.low || map.high / 50;
      held.cal_max = map.high;
      held.cal_minNeg = -held.cal_min;
      held.cal_maxNeg = -map.high;
      held.opacity = state.mapMix / 100;
      map.pane = panes.find((pane) => pane.image.role === map.on);
      map.pane.nv.addVolume(held);
      drawBar(map);
    }
    follow(lead());
  }

  function drawBar(map) {
    const nv = panes[0].nv, context = byId("bar-colours").getContext("2d");
    const pixels = context.createImageData(256, 1);
    for (let x = 0; x < 256; x++) {
      const value = map.signed ? (x - 127.5) / 127.5 : x / 255;
      const colours = nv.colormap(map.signed ? (value < 0 ? NEGATIVE : POSITIVE) : UNSIGNED);
      const place = Math.round(Math.abs(value) * 255) * 4;
      const clear = Math.abs(value) * map.high < (map.low || map.high / 50);
      pixels.data.set([colours[place], colours[place + 1], colours[place + 2], clear ? 0 : colours[place + 3]], x * 4);
    }
    context.putImageData(pixels, 0, 0);
    byId("bar-low").textContent = map.signed ? `−${brief(map.high)}` : "0";
    byId("bar-high").textContent = `${map.signed ? "+" : ""}${brief(map.high)}`;
    byId("bar-unit").textContent =
      `${map.unit} · ${map.title}${map.signed ? `, below ${brief(map.low)} not coloured` : ""}`;
  }

  // ---- controls ---------------------------------------------------------------------------------

  function buttons(group, choices, act) {
    for (const [value, name] of Object.entries(choices)) {
      const button = element("button", { type: "button", value, "aria-pressed": "false" }, name);
      button.addEventListener("click", () => act(value));
      byId(group).append(button);
    }
  }

  const setMode = (mode) => { if (panes.length > 1) { state.mode = mode; state.hidden = false; arrange(); } };
  const setPlane = (plane) => { state.plane = plane; arrange(); };
  const setMix = (mix) => { state.mix = Math.max(0, Math.min(100, mix)); arrange(); };
  const after = (list, item) => list[(list.indexOf(item) + 1) % list.length];

  function nextWindow() {
    for (const pane of panes) {
      const next = (Number(pane.select.value) + 1 || 0) % pane.image.windows.length;
      setWindow(pane, pane.image.windows[next]);
    }
  }

  function asAtTheBeginning() {
    Object.assign(state, { mode: "side", plane: "all", mix: 50, hidden: false });
    for (const pane of panes) {
      setWindow(pane, pane.image.windows[0]);
      pane.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
      pane.nv.setRenderAzimuthElevation(110, 10);
    }
    arrange();
  }

  const KEYS = {
    ArrowLeft: () => moveBy(1, 0, 0), ArrowRight: () => moveBy(-1, 0, 0),
    ArrowUp: () => moveBy(0, 1, 0), ArrowDown: () => moveBy(0, -1, 0),
    PageUp: () => moveBy(0, 0, 1), PageDown: () => moveBy(0, 0, -1),
    m: () => setMode(after(Object.keys(MODES), state.mode)),
    w: nextWindow, r: asAtTheBeginning,
    e: () => setMap(after(["", ...shown.overlays.map((map) => map.key)], state.map)),
    "[": () => setMix(state.mix - 5), "]": () => setMix(state.mix + 5),
    " ": () => { if (state.mode !== "side") { state.hidden = !state.hidden; arrange(); } },
    "?": () => byId("help").showModal(),
  };
  Object.keys(PLANES).forEach((plane, i) => { KEYS[String(i + 1)] = () => setPlane(plane); });

  function onKey(event) {
    const at = event.target;
    const inControl = at.matches("input, select, summary") || (at.matches("button") && event.key === " ");
    if (inControl || event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // NiiVue has keys of its own; those that the page does not name would move one image alone.
    if (at.matches("canvas") && event.key !== "Tab") event.stopImmediatePropagation();
    if (!act) return;
    event.preventDefault();
    act();
  }

  function connect() {
    buttons("modes", MODES, setMode);
    buttons("planes", Object.fromEntries(Object.entries(PLANES).map(([k, [name]]) => [k, name])), setPlane);
    byId("modes").hidden = panes.length < 2;
    byId("mix-value").addEventListener("input", (e) => setMix(Number(e.target.value)));
    panes.forEach((pane, i) => byId("above").append(
      element("option", { value: i }, `${ROLES[pane.image.role]} ${pane.image.title}`)));
    state.above = Math.max(1, panes.findIndex((pane) => pane.image.role === "synthetic"));
    byId("above").value = String(state.above);
    byId("above").addEventListener("change", (e) => { state.above = Number(e.target.value); arrange(); });
    byId("maps").hidden = !shown.overlays.length;
    byId("map").append(element("option", { value: "" }, "none"),
      ...shown.overlays.map((map) => element("option", { value: map.key }, map.title)));
    byId("map").addEventListener("change", (e) => setMap(e.target.value));
    byId("map-opacity").addEventListener("input", (e) => {
      state.mapMix = Number(e.target.value);
      const map = currentMap();
      if (map) { map.held.opacity = state.mapMix / 100; map.pane.nv.updateGLVolume(); }
    });
    byId("help-button").addEventListener("click", () => byId("help").showModal());
    const notes = [...shown.notes, ...shown.overlays.map((map) => map.note).filter(Boolean)];
    byId("notes").hidden = !notes.length;
    byId("notes").querySelector("ul").append(...notes.map((note) => element("li", {}, note)));
    stage.append(element("div", { id: "wipe-line", hidden: "" }));
    window.addEventListener("keydown", onKey, true);
  }

  // ---- the beginning ----------------------------------------------------------------------------

  try {
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("this browser has no WebGL 2, which draws the images: another browser, or graphics acceleration switched on, helps");
    }
    for (const [number, image] of shown.images.entries()) await addPane(image, number);
    connect();
    arrange();
    follow(panes[0]);
    byId("state").remove();
    document.body.dataset.ready = "yes";
    window.syndiffView = { panes, state, valueAt };
  } catch (error) {
    byId("state").textContent = `The images cannot be shown: ${error.message || error}`;
    document.body.dataset.ready = "failed";
    throw error;
  }
})();
