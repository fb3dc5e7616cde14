/** The page: opens or asks for a session, shows the navigation and one page of it, by the fragment of the address. */
import { render } from 'preact'
import { useCallback, useEffect, useState } from 'preact/hooks'
import { Consortium } from './consortium-page.js'
import { Evaluate } from './evaluate-page.js'
import { Experts } from './experts-page.js'
import { html } from './html.js'
import { Log } from './log-page.js'
import { Network } from './network-page.js'
import { enter, followEvents, leave, onSessionEnd, session, useConnected } from './node.js'
import { Overview } from './overview-page.js'
import { Loading, PageContext } from './parts.js'
import { Privacy } from './privacy-page.js'
import { Train } from './train-page.js'
import { Try } from './try-page.js'
import { Usage } from './usage-page.js'

/** A page is listed if the node has the command that it shows. */
const PAGES = [
  { path: 'overview', name: 'Overview', show: Overview, needs: 'experts' },
  { path: 'consortium', name: 'Consortium', show: Consortium, needs: 'members' },
  { path: 'experts', name: 'Experts', show: Experts, needs: 'experts' },
  { path: 'train', name: 'Train', show: Train, needs: 'train' },
  { path: 'try', name: 'Try it', show: Try, needs: 'experts' },
  { path: 'evaluate', name: 'Evaluate', show: Evaluate, needs: 'evaluate' },
  { path: 'privacy', name: 'Privacy', show: Privacy, needs: 'egress' },
  { path: 'usage', name: 'Usage', show: Usage, needs: 'usage' },
  { path: 'network', name: 'Network', show: Network, needs: 'members' },
  { path: 'log', name: 'Log', show: Log, needs: 'experts' },
]
const MESSAGE_MS = 8000

function pathOf() {
  return location.hash.replace(/^#\/?/, '').split('?')[0]
}

function App() {
  const [state, setState] = useState(
    /** @type {{ phase: string, role?: string, about?: object, reason?: string }} */ ({ phase: 'opening' }),
  )
  const open = useCallback(async () => {
    const link = /^#enter=([0-9a-f]+)$/.exec(location.hash)?.[1]
    try {
      // The link is spent by its first use, so it leaves the address before anything else happens.
      if (link !== undefined) history.replaceState(null, '', '/#/overview')
      const { role, ...about } = link === undefined ? await session() : await enter(link)
      setState({ phase: 'open', role, about })
      followEvents()
    } catch (error) {
      setState({ phase: 'closed', reason: error.code === 'no_session' ? undefined : error.message })
    }
  }, [])
  useEffect(() => {
    onSessionEnd(() => setState({ phase: 'closed' }))
    void open()
    const entered = () => location.hash.startsWith('#enter=') && open()
    addEventListener('hashchange', entered)
    return () => removeEventListener('hashchange', entered)
  }, [open])
  if (state.phase === 'opening') return html`<main class="alone"><${Loading} /></main>`
  if (state.phase === 'closed') return html`<${Closed} reason=${state.reason} />`
  return html`<${Shell} role=${state.role} about=${state.about} onLeave=${() => leave().finally(() => setState({ phase: 'closed' }))} />`
}

function Closed({ reason }) {
  return html`<main class="alone">
    <h1>FlexMesh</h1>
    ${reason !== undefined && html`<p class="alert" role="alert">${reason}</p>`}
    <p>This page opens with a link that is good for one use. On the machine of the node, run</p>
    <pre><code>flexmesh dashboard</code></pre>
    <p class="quiet">and open the link that it prints in this browser.</p>
  </main>`
}

function Shell({ role, about, onLeave }) {
  const [path, setPath] = useState(pathOf())
  const [messages, setMessages] = useState([])
  const isConnected = useConnected()
  useEffect(() => {
    const changed = () => {
      setPath(pathOf())
      document.getElementById('content')?.focus()
    }
    addEventListener('hashchange', changed)
    return () => removeEventListener('hashchange', changed)
  }, [])
  const say = useCallback((text, kind = 'good') => {
    const message = { text, kind, key: Math.random() }
    setMessages((all) => [...all.slice(-2), message])
    setTimeout(() => setMessages((all) => all.filter((one) => one !== message)), MESSAGE_MS)
  }, [])
  const pages = PAGES.filter(({ needs }) => about.commands.includes(needs))
  const page = pages.find((one) => one.path === path) ?? pages[0]
  useEffect(() => {
    document.title = `${page.name} · ${about.institution} · FlexMesh`
  }, [page.name, about.institution])
  return html`<${PageContext.Provider} value=${{ role, about, say }}>
    <a class="skip" href="#content" onClick=${(event) => {
      event.preventDefault()
      document.getElementById('content').focus()
    }}>Skip to the content</a>
    <header class="top">
      <div class="brand"><img src="/assets/icon.svg" alt="" width="24" height="24" /><strong>${about.institution}</strong>
        <span class="quiet">${about.consortium}</span></div>
      <div class="status">
        <span role="status">${isConnected ? html`<span class="dot good"></span>live` : html`<span class="dot bad"></span>connecting …`}</span>
        ${role === 'reader' && html`<span class="badge badge-plain">read only</span>`}
        <${Theme} />
        <button type="button" class="plain" onClick=${onLeave}>Leave</button>
      </div>
    </header>
    <div class="columns">
      <nav aria-label="Pages"><ul>${pages.map(
        (one) =>
          html`<li key=${one.path}><a href=${`#/${one.path}`} aria-current=${one === page ? 'page' : undefined}>${one.name}</a></li>`,
      )}</ul></nav>
      <main id="content" tabindex="-1"><h1>${page.name}</h1><${page.show} key=${page.path} /></main>
    </div>
    <div class="messages" role="log" aria-live="polite" aria-label="Messages">${messages.map(
      ({ text, kind, key }) => html`<p key=${key} class=${`message message-${kind}`}>${text}</p>`,
    )}</div>
  <//>`
}

const THEMES = ['auto', 'light', 'dark']

/** Chooses light or dark; "auto" follows the system. */
function Theme() {
  const [theme, setTheme] = useState(localStorage.getItem('theme') ?? 'auto')
  useEffect(() => {
    document.documentElement.dataset.theme = theme
    localStorage.setItem('theme', theme)
  }, [theme])
  return html`<label class="theme"><span class="unseen">Theme</span>
    <select value=${theme} onChange=${(event) => setTheme(event.target.value)}>${THEMES.map(
      (one) => html`<option value=${one} selected=${one === theme}>${one}</option>`,
    )}</select></label>`
}

render(html`<${App} />`, document.getElementById('app'))
