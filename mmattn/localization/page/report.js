// The page as a tool: threshold, opacity, filters, order, enlarged images, colours.
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const data = JSON.parse($('data').textContent);
  const cards = [...document.querySelectorAll('.card')].map((element, i) => ({
    ...data.images[i], element, counts: null, place: i, drawn: element.querySelector('.boxes')}));
  const grid = document.querySelector('.cards');
  const judged = Boolean($('box')); // there are true boxes
  const large = $('large');
  const state = { step: data.start, heat: 100, open: null };
  root.classList.add('script');

  // --- one threshold for the gallery, the curves and the enlarged image
  function draw(card, step) {
    if (!card.counts) return;
    const [height, width] = card.shot.input_size;
    const found = boxesAt(card.counts, width, height, step, data.rule);
    const rects = found.map((box) => toImage(box, card.shot));
    const { stroke, dash } = card.drawn.dataset;
    card.drawn.replaceChildren(...rects.flatMap((box) => [
      rectangle(box, 'halo', 1.7 * stroke, dash), rectangle(box, 'found', stroke, dash)]));
    card.boxes = rects;
    if (!judged) return;
    card.iou = bestIou(found, card.truth, card.shot, data.rule);
    card.hit = card.iou >= data.iou_thr;
    card.element.querySelector('.iou').textContent = card.iou.toFixed(2);
    const verdict = card.element.querySelector('.verdict');
    verdict.textContent = `box ${word(card.hit)}, class ${word(card.class_right)}`;
    verdict.dataset.right = Number(card.hit) + Number(card.class_right);
  }

  const word = (right) => (right ? 'right' : 'wrong');

  function rectangle([x0, y0, x1, y1], kind, width, dash) {
    const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    const values = { class: kind, x: x0, y: y0, width: x1 - x0, height: y1 - y0,
      'stroke-width': width, 'stroke-dasharray': dash };
    Object.entries(values).forEach(([name, value]) => rect.setAttribute(name, value));
    return rect;
  }

  function moveMark() {
    if (!data.curves) return;
    const x = data.curves.x[state.step];
    const line = `<line x1="${x}" x2="${x}" y1="${data.curves.top}" y2="${data.curves.bottom}"/>`;
    const dots = data.curves.y.map((y, i) => `<circle class="c${i}" cx="${x}" cy="${y[state.step]}" r="4"/>`);
    $('mark').innerHTML = line + dots.join('');
    document.querySelectorAll('#curve-table .now').forEach((cell, i) => {
      cell.textContent = `${(100 * data.curves.values[i][state.step]).toFixed(1)}\u00a0%`;
    });
  }

  let waiting = false;
  function setStep(step) {
    state.step = Number(step);
    const threshold = data.thresholds[state.step];
    document.querySelectorAll('#threshold, .threshold').forEach((input) => {
      input.value = state.step;
      input.setAttribute('aria-valuetext', threshold);
    });
    document.querySelectorAll('#slider output, dialog output').forEach((output) => {
      output.textContent = threshold.toFixed(2 + (Math.round(threshold * 100) / 100 !== threshold));
    });
    if (waiting) return;
    waiting = true; // one redraw a frame, however fast the slider moves
    requestAnimationFrame(() => {
      waiting = false;
      cards.forEach((card) => draw(card, state.step));
      moveMark();
      arrange();
      showLarge();
    });
  }

  function setHeat(value) {
    document.querySelectorAll('#heat, .heat[type=range]').forEach((input) => { input.value = value; });
    root.style.setProperty('--heat', value / 100);
  }

  // --- which images, in which order
  function arrange() {
    const fits = (id, value) => !$(id) || $(id).value === '' || $(id).value === String(value);
    for (const card of cards) {
      card.element.hidden = !(fits('class', card.label) && fits('box', Number(card.hit))
        && fits('best', Number(card.class_right)));
    }
    const [, minus, name] = $('sort').value.match(/^(-?)(.*)$/);
    const value = (card) => (name === 'gain' ? card.other_iou - card.iou : name === '' ? card.place : card[name]);
    const compare = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.place - b.place);
    const order = [...cards].sort((a, b) => (minus ? compare(b, a) : compare(a, b)));
    if (order.some((card, i) => grid.children[i] !== card.element)) grid.append(...order.map((c) => c.element));
    const shown = order.filter((card) => !card.element.hidden);
    state.order = shown;
    $('count').textContent = `${shown.length} of ${cards.length} images`
      + (judged ? `, ${shown.filter((card) => card.hit).length} of them with the box right at this threshold` : '');
  }

  // --- one image, as large as the window
  function open(card) {
    state.open = card;
    showLarge();
    if (!large.open) large.showModal();
  }

  function showLarge() {
    const card = state.open;
    if (!card) return;
    $('large-name').textContent = card.key;
    const lines = [...card.element.querySelectorAll('figcaption p')].slice(0, -1);
    $('large-text').replaceChildren(...lines.map((line) => line.cloneNode(true)));
    $('large-image').replaceChildren(card.element.querySelector('svg').cloneNode(true));
  }

  function move(by) {
    const shown = state.order.length ? state.order : cards;
    const at = shown.indexOf(state.open);
    open(shown[(at + by + shown.length) % shown.length]);
  }

  // --- the table of classes
  function sortable(table) {
    const rows = [...table.tBodies[0].rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = head.textContent;
      head.replaceChildren(button);
      const value = (row) => {
        const cell = row.cells[column];
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      button.addEventListener('click', () => {
        const falling = head.getAttribute('aria-sort') === 'ascending';
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute('aria-sort'));
        head.setAttribute('aria-sort', falling ? 'descending' : 'ascending');
        const compare = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0);
        rows.sort((a, b) => (falling ? compare(b, a) : compare(a, b)));
        table.tBodies[0].append(...rows);
      });
    });
    $('find').addEventListener('input', () => {
      const text = $('find').value.trim().toLowerCase();
      rows.forEach((row) => { row.hidden = !row.cells[0].textContent.toLowerCase().includes(text); });
    });
    const here = new Set(cards.map((card) => String(card.label)));
    rows.filter((row) => here.has(row.dataset.label)).forEach((row) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.title = 'Show its images';
      button.textContent = row.cells[0].textContent;
      button.addEventListener('click', () => {
        $('class').value = row.dataset.label;
        arrange();
        $('images').scrollIntoView();
        $('class').focus({ preventScroll: true });
      });
      row.cells[0].replaceChildren(button);
    });
  }

  // --- colours
  function setTheme(theme) {
    root.dataset.theme = theme;
    $('theme').textContent = theme === 'dark' ? 'Light' : 'Dark';
    $('theme').setAttribute('aria-label', `${$('theme').textContent} colours`);
    try { localStorage.setItem('mmattn-theme', theme); } catch { /* a page from a file may not */ }
  }

  let theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  try { theme = localStorage.getItem('mmattn-theme') || theme; } catch { /* as above */ }
  setTheme(theme);
  $('theme').addEventListener('click', () => setTheme(root.dataset.theme === 'dark' ? 'light' : 'dark'));

  document.querySelectorAll('#threshold, .threshold').forEach((input) => {
    input.addEventListener('input', () => setStep(input.value));
  });
  document.querySelectorAll('#heat, .heat[type=range]').forEach((input) => {
    input.addEventListener('input', () => setHeat(input.value));
  });
  $('reset').addEventListener('click', () => setStep(data.start));
  ['class', 'box', 'best', 'sort'].filter($).forEach((id) => $(id).addEventListener('change', arrange));
  cards.forEach((card) => card.element.querySelector('.zoom').addEventListener('click', () => open(card)));
  $('close').addEventListener('click', () => large.close());
  large.addEventListener('close', () => { state.open = null; });
  large.addEventListener('click', (event) => { if (event.target === large) large.close(); });
  large.addEventListener('keydown', (event) => {
    if (event.target.matches('input')) return; // the arrows move its slider
    if (event.key === 'ArrowRight') move(1);
    if (event.key === 'ArrowLeft') move(-1);
  });
  $('before').addEventListener('click', () => move(-1));
  $('after').addEventListener('click', () => move(1));
  if ($('class-table')) sortable($('class-table'));
  setHeat(100);
  arrange();

  Promise.all(cards.map(async (card) => {
    card.counts = await unpackMap(card.shot.map, card.shot.input_size[1]);
  })).then(() => {
    setStep(data.start);
    root.dataset.ready = 'true';
  }, () => { // a browser that cannot unpack: the boxes stay as they were written
    $('slider').hidden = true;
    root.dataset.ready = 'false';
  });
})();
