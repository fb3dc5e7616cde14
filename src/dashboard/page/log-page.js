/** The page Log: the latest events of the node and lines of its log, with a filter and a pause. */
import { useRef, useState } from 'preact/hooks'
import { html } from './html.js'
import { events, useEvents } from './node.js'
import { clock } from './words.js'

const LEVELS = ['all', 'events', 'warnings and errors']
/** Rows that the page shows at once. */
const MAX_ROWS = 300

export function Log() {
  const [shown, setShown] = useState(() => [...events])
  const [isPaused, setPaused] = useState(false)
  const [level, setLevel] = useState(LEVELS[0])
  const [filter, setFilter] = useState('')
  const paused = useRef(false)
  paused.current = isPaused
  useEvents(() => paused.current || setShown([...events]))
  const words = filter.toLowerCase()
  const rows = shown
    .filter(({ event, level: severity }) => {
      if (level === 'events') return event !== 'log'
      return level === 'all' || severity === 'warn' || severity === 'error'
    })
    .map((one) => ({ ...one, text: textOf(one) }))
    .filter(({ text }) => text.toLowerCase().includes(words))
    .slice(-MAX_ROWS)
    .reverse()
  return html`<div class="row toolbar">
      <label class="search"><span class="unseen">Filter</span><input type="search" placeholder="Filter" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></label>
      <label><span class="unseen">Show</span><select onChange=${(event) => setLevel(event.target.value)}>${LEVELS.map((one) => html`<option selected=${one === level}>${one}</option>`)}</select></label>
      <button type="button" aria-pressed=${isPaused} onClick=${() => setPaused(!isPaused)}>${isPaused ? 'Go on' : 'Pause'}</button>
    </div>
    ${rows.length === 0 && html`<p class="quiet">Nothing yet.</p>`}
    <ol class="log">${rows.map(
      ({ id, at, event, level: severity, text }) =>
        html`<li key=${id} data-level=${severity ?? 'event'}><time>${clock(at)}</time> <strong>${severity ?? event}</strong> ${text}</li>`,
    )}</ol>`
}

/** An event in words; if it has none, its members, without those that the row shows already. */
function textOf({ id, at, event, level, words, ...rest }) {
  if (words !== undefined) return words
  if (event === 'log') return `${rest.part}: ${rest.message}`
  return Object.entries(rest)
    .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(', ')
}
