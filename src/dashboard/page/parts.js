/** Parts that several pages share: tables, badges, meters, dialogs and messages. Knows nothing about the node. */
import { createContext } from 'preact'
import { useContext, useEffect, useRef, useState } from 'preact/hooks'
import { mark } from './experts-colors.js'
import { html } from './html.js'

/** `{ role, about, say }`: who uses the page, what the node is, and a function that shows a message. */
export const PageContext = createContext({})
export const usePage = () => useContext(PageContext)

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

/** The letter, in the colour, of an expert of the composition. */
export function Mark({ index }) {
  const { letter, color } = mark(index)
  return html`<span class="mark" data-color=${color} aria-hidden="true">${letter}</span>`
}

/** Asks before something that cannot be undone. @param question `{ title, text, action, run }`; undefined closes it */
export function Confirm({ question, onClose }) {
  const dialog = useRef()
  const [isBusy, setBusy] = useState(false)
  useEffect(() => {
    if (question === undefined) dialog.current?.close()
    else if (!dialog.current.open) dialog.current.showModal()
  }, [question])
  const go = async () => {
    setBusy(true)
    try {
      await question.run()
    } finally {
      setBusy(false)
      onClose()
    }
  }
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="confirm-title">
    ${
      question !== undefined &&
      html`<h2 id="confirm-title">${question.title}</h2>
      ${[question.text].flat().map((line) => html`<p>${line}</p>`)}
      <p class="buttons">
        <button type="button" onClick=${onClose} autofocus>Cancel</button>
        <button type="button" class="danger" disabled=${isBusy} onClick=${go}>${question.action}</button>
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
