/** Parts that several pages share: tables, badges, meters, dialogs and messages. Knows nothing about the node. */
import { createContext } from 'preact'
import { useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { mark } from './experts-colors.js'
import { html } from './html.js'

/**
 * Who uses the page, what the node is, and a function that shows a message.
 * @typedef {{
 *   role: 'operator' | 'reader',
 *   about: { institution: string, peerId: string, consortium: string, commands: string[] },
 *   say: (text: string, kind?: 'good' | 'bad') => void,
 * }} PageValue
 */
export const PageContext = createContext(/** @type {PageValue} */ ({}))
export const usePage = () => useContext(PageContext)

/**
 * A value that may be absent, and a function that changes it.
 * @template T
 * @typedef {[T | undefined, (value: T | undefined) => void]} Optional
 */

/**
 * State that is absent at first. The caller names its type, as in `Optional<string>`.
 * @template T
 * @returns {Optional<T>}
 */
export const useOptional = () => useState(/** @type {T | undefined} */ (undefined))

/**
 * What `Confirm` asks before an action; a list of texts is shown as paragraphs.
 * @typedef {{
 *   title: string,
 *   text: string | string[],
 *   action: string,
 *   run: () => Promise<unknown>,
 *   isHarmless?: boolean,
 * }} Question
 */

/**
 * The open question of a page, and a function that asks another one or none.
 * @returns {Optional<Question>}
 */
export const useQuestion = () => useOptional()

/**
 * The error of the latest attempt.
 * @returns {Optional<Error>}
 */
export const useFailure = () => useOptional()

/** The text of a field of a form, without white space around it. @param {FormData} given */
export const fieldOf = (given, name) => String(given.get(name) ?? '').trim()

/** The lines of a field of a form. @param {FormData} given */
export const linesOf = (given, name) =>
  fieldOf(given, name)
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)

/** A section with a heading. */
export function Panel({ title, children, aside }) {
  return html`<section class="panel">
    <header class="panel-head"><h2>${title}</h2>${aside}</header>
    ${children}
  </section>`
}

/** What a page shows before its data has come, or if it cannot come. */
export function Loading({ error }) {
  return error === undefined
    ? html`<p class="quiet" role="status">loading …</p>`
    : html`<p class="alert" role="alert">${error.message}</p>`
}

/** @param kind good, warn, bad, busy or plain; each has a sign of its own beside its colour */
export function Badge({ kind = 'plain', children }) {
  const signs = { good: '✓', warn: '!', bad: '✕', busy: '…', plain: '·' }
  return html`<span class=${`badge badge-${kind}`}><span aria-hidden="true">${signs[kind]}</span> ${children}</span>`
}

/** A bar with its value in words. @param share 0 to 1 */
export function Meter({ share, label }) {
  const value = Math.round(100 * Math.min(1, Math.max(0, share)))
  return html`<div class="meter" role="progressbar" aria-valuenow=${value} aria-valuemin="0" aria-valuemax="100" aria-label=${label}>
    <div class="meter-fill" style=${{ width: `${value}%` }}></div>
  </div>`
}

/**
 * @param columns `{ name, of: row => content, isNumber, isWhole }`; a whole cell is not broken into lines
 * @param caption what the table lists, for screen readers
 */
export function Table({ caption, columns, rows, keyOf, empty = 'nothing' }) {
  if (rows.length === 0) return html`<p class="quiet">${empty}</p>`
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
    <caption class="unseen">${caption}</caption>
    <thead><tr>${columns.map(({ name, isNumber }) => html`<th scope="col" class=${isNumber ? 'number' : ''}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map(
      (row) =>
        html`<tr key=${keyOf(row)}>${columns.map(
          ({ of, isNumber, isWhole, name }) =>
            html`<td data-column=${name} class=${isNumber ? 'number' : isWhole ? 'whole' : ''}>${of(row)}</td>`,
        )}</tr>`,
    )}</tbody>
  </table></div>`
}

/** Rows that a long table shows at first; a button shows the others. */
const FIRST_ROWS = 50
/** Number of rows from which on a long table has a filter. */
const FILTERED_ROWS = 9

/**
 * A table that may have many rows: it has a filter, and shows the first rows until more are asked for. The other
 * parameters are those of `Table`.
 * @param textOf text of a row, which the filter searches
 */
export function LongTable({ rows, textOf, empty, caption, ...rest }) {
  const [filter, setFilter] = useState('')
  const [most, setMost] = useState(FIRST_ROWS)
  const texts = useMemo(() => rows.map((row) => textOf(row).toLowerCase()), [rows])
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean)
  const matching = rows.filter((_, i) => words.every((word) => texts[i].includes(word)))
  return html`
    ${
      rows.length >= FILTERED_ROWS &&
      html`<label class="search"><span class="unseen">Filter: ${caption}</span>
        <input type="search" placeholder="Filter" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></label>`
    }
    <${Table} caption=${caption} rows=${matching.slice(0, most)} empty=${filter === '' ? empty : 'Nothing matches.'} ...${rest} />
    ${matching.length > most && html`<button type="button" onClick=${() => setMost(Infinity)}>Show all ${matching.length}</button>`}`
}

/** The letter, in the colour, of an expert of the composition. */
export function Mark({ index }) {
  const { letter, color } = mark(index)
  return html`<span class="mark" data-color=${color} aria-hidden="true">${letter}</span>`
}

/**
 * Asks before an action, and says what follows from it. Shows the error of the action and then stays open.
 * @param {{ question: Question | undefined, onClose: () => void }} props undefined closes it
 */
export function Confirm({ question, onClose }) {
  const dialog = useRef(null)
  const [isBusy, setBusy] = useState(false)
  const [error, setError] = useFailure()
  useEffect(() => {
    setError(undefined)
    if (question === undefined) dialog.current?.close()
    else if (!dialog.current.open) dialog.current.showModal()
  }, [question])
  const go = async () => {
    setBusy(true)
    try {
      await question.run()
      onClose()
    } catch (failure) {
      setError(failure)
    } finally {
      setBusy(false)
    }
  }
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="confirm-title">
    ${
      question !== undefined &&
      html`<h2 id="confirm-title">${question.title}</h2>
      ${[question.text].flat().map((line) => html`<p key=${line}>${line}</p>`)}
      ${error !== undefined && html`<p class="alert" role="alert">${error.message}</p>`}
      <p class="buttons">
        <button type="button" onClick=${onClose} autofocus>Cancel</button>
        <button type="button" class=${question.isHarmless ? 'primary' : 'danger'} disabled=${isBusy} onClick=${go}>${question.action}</button>
      </p>`
    }
  </dialog>`
}

/** A button for operators. Shows the error of what it does, and is disabled while it does it. */
export function Action({ onAct, children, kind = '', isDisabled = false, title }) {
  const { role, say } = usePage()
  const [isBusy, setBusy] = useState(false)
  if (role !== 'operator') return null
  const act = async () => {
    setBusy(true)
    try {
      await onAct()
    } catch (error) {
      say(error.message, 'bad')
    } finally {
      setBusy(false)
    }
  }
  return html`<button type="button" class=${kind} title=${title} disabled=${isBusy || isDisabled} onClick=${act}>${children}</button>`
}

/** A labelled input. */
export function Field({ label, hint, children }) {
  return html`<label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`
}
