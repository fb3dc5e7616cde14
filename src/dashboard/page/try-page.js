/**
 * The page Try it: an answer of the composition, token by token, each marked by the institution that carries most of it.
 * Experts can be left out, and two answers shown side by side. Prompts and answers stay in this page.
 */
import { useRef, useState } from 'preact/hooks'
import { mark, nameOf } from './experts-colors.js'
import { html } from './html.js'
import { streamAnswer, useCommand } from './node.js'
import { Field, Loading, Mark, Panel, useOptional, usePage } from './parts.js'
import { percent } from './words.js'

const EMPTY = { tokens: [], experts: [], state: 'empty' }

export function Try() {
  const { say } = usePage()
  const { value, error } = useCommand('experts')
  const [left, setLeft] = useState(EMPTY)
  const [right, setRight] = useState(EMPTY)
  const [isSideBySide, setSideBySide] = useState(false)
  const [excluded, setExcluded] = useState([])
  // Names of the experts that the answer on screen was computed without.
  const [leftOut, setLeftOut] = useState([])
  const form = useRef(null)
  const abort = useRef(null)
  if (value === undefined) return html`<${Loading} error=${error} />`
  const { composed } = value
  const go = async (event) => {
    event.preventDefault()
    const data = new FormData(form.current)
    const isChat = data.get('kind') === 'chat'
    const text = data.get('prompt')
    const request = {
      ...(isChat ? { messages: [{ role: 'user', content: text }] } : { prompt: text }),
      max_tokens: Number(data.get('tokens')),
      temperature: Number(data.get('temperature')),
      seed: 1,
    }
    abort.current?.abort()
    abort.current = new AbortController()
    const answer = (more, set) =>
      ask(
        isChat ? 'chat/completions' : 'completions',
        { ...request, ...more },
        set,
        abort.current.signal,
      ).catch((failure) => {
        if (failure.name !== 'AbortError') say(failure.message, 'bad')
        set((before) => ({ ...before, state: 'stopped' }))
      })
    const without = { experts: { exclude: excluded } }
    const names = composed.filter(({ id }) => excluded.includes(id)).map(nameOf)
    setLeftOut(names)
    await Promise.all(
      isSideBySide ? [answer({}, setLeft), answer(without, setRight)] : [answer(without, setLeft)],
    )
  }
  const isRunning = left.state === 'running' || right.state === 'running'
  const toggle = (id) =>
    setExcluded((all) => (all.includes(id) ? all.filter((one) => one !== id) : [...all, id]))
  return html`
    <form ref=${form} class="form" onSubmit=${go}>
      <${Field} label="Prompt"><textarea name="prompt" rows="3" required>The theorem states that</textarea><//>
      <div class="row">
        <${Field} label="Kind"><select name="kind"><option value="completion">completion</option><option value="chat">chat</option></select><//>
        <${Field} label="Tokens"><input name="tokens" type="number" min="1" max="512" defaultValue="80" /><//>
        <${Field} label="Temperature"><input name="temperature" type="number" min="0" max="2" step="0.1" defaultValue="0.7" /><//>
      </div>
      <fieldset><legend>Institutions that may answer</legend>
        <div class="row">${composed.map(
          ({ id, institution, name }, i) =>
            html`<label key=${id} class="check"><input type="checkbox" checked=${!excluded.includes(id)} onChange=${() => toggle(id)} />
              <${Mark} index=${i + 1} /> ${institution} <span class="quiet">/ ${name}</span></label>`,
        )}
        ${composed.length === 0 && html`<span class="quiet">the public model alone</span>`}</div>
        <label class="check"><input type="checkbox" checked=${isSideBySide} onChange=${() => setSideBySide(!isSideBySide)} />
          show beside the answer of all</label>
      </fieldset>
      <p class="buttons"><button type="submit" class="primary" disabled=${isRunning}>Answer</button>
        ${isRunning && html`<button type="button" onClick=${() => abort.current.abort()}>Stop</button>`}</p>
    </form>
    <div class=${isSideBySide ? 'pair' : ''}>
      <${Answer} title=${isSideBySide ? 'All institutions' : 'Answer'} answer=${left} leftOut=${isSideBySide ? [] : leftOut} />
      ${isSideBySide && html`<${Answer} title="As chosen above" answer=${right} leftOut=${leftOut} />`}
    </div>`
}

async function ask(path, request, set, signal) {
  set({ ...EMPTY, state: 'running' })
  await streamAnswer(
    path,
    request,
    ({ flexmesh }) => {
      if (flexmesh === undefined) return
      set((before) => ({
        ...before,
        experts: flexmesh.experts ?? before.experts,
        tokens: [...before.tokens, ...(flexmesh.tokens ?? [])],
        ...(flexmesh.composition === undefined ? {} : { final: flexmesh }),
      }))
    },
    signal,
  )
  set((before) => ({ ...before, state: 'done' }))
}

/** @param leftOut names of the experts that the answer was computed without */
function Answer({ title, answer: { tokens, experts, state, final }, leftOut }) {
  /** @type {import('./parts.js').Optional<number>} */
  const [shown, show] = useOptional()
  if (state === 'empty') return null
  const token = shown === undefined ? undefined : tokens[shown]
  const shares = token?.shares ?? final?.experts.map(({ share }) => share) ?? meanOf(tokens, experts.length)
  return html`<${Panel} title=${title} aside=${html`<span class="quiet" role="status">${state === 'running' ? 'answering …' : `${tokens.length} tokens`}</span>`}>
    <p class="answer" aria-busy=${state === 'running'}>${tokens.map((one, i) => html`<${Token} key=${i} token=${one} isShown=${shown === i} onShow=${() => show(i)} onHide=${() => show(undefined)} />`)}</p>
    <h3>${token === undefined ? 'Shares of the whole answer' : html`Shares of <q>${token.text}</q>`}</h3>
    <ul class="shares">${experts.map(
      (expert, i) => html`<li key=${i}><${Mark} index=${i} /> <span>${nameOf(expert)}</span>
        <span class="share-bar"><span data-color=${mark(i).color} style=${{ width: `${100 * (shares[i] ?? 0)}%` }}></span></span>
        <span class="number">${leftOut.includes(nameOf(expert)) ? 'left out' : percent(shares[i] ?? 0)}</span></li>`,
    )}</ul>
    <p class="quiet">Every token is underlined in the colour and pattern of the expert that carries most of it. Point at a token, or move to it with the Tab key, for its shares.</p>
  <//>`
}

function Token({ token: { text, shares }, isShown, onShow, onHide }) {
  const top = shares.indexOf(Math.max(...shares))
  const { letter, color, pattern } = mark(top)
  return html`<span class="token" tabindex="0" data-color=${color} data-pattern=${pattern} data-shown=${isShown} title=${`${letter} ${percent(shares[top])}`}
    onMouseEnter=${onShow} onFocus=${onShow} onMouseLeave=${onHide} onBlur=${onHide}>${text}</span>`
}

function meanOf(tokens, experts) {
  return Array.from({ length: experts }, (_, e) =>
    tokens.length === 0 ? 0 : tokens.reduce((sum, { shares }) => sum + shares[e], 0) / tokens.length,
  )
}
