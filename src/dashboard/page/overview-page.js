/** The page Overview: is everything well, who is there, what answers, and what waits for a person. */
import { html } from './html.js'
import { jobs, useCommand, useRead } from './node.js'
import { explain, isUnderWay, stateOf } from './package-state.js'
import { Badge, Loading, Mark, Panel } from './parts.js'
import { count, duration } from './words.js'

/** Members that the page lists, those that are away first. */
const MAX_MEMBERS = 12

export function Overview() {
  const members = useCommand('members')
  const status = useCommand('status', {}, 5000)
  const experts = useCommand('experts')
  const running = useCommand('jobs', {}, 5000)
  if (members.value === undefined || experts.value === undefined || status.value === undefined)
    return html`<${Loading} error=${members.error ?? experts.error ?? status.error} />`
  const waiting = status.value.attention
  const active = members.value.members.filter(({ revoked }) => !revoked)
  const connected = active.filter((one) => one.connected)
  return html`
    <${Health} waiting=${waiting} />
    <div class="grid">
      <${Panel} title="Waits for you">
        ${
          waiting.length === 0
            ? html`<p class="quiet">Nothing.</p>`
            : html`<ul class="list">${waiting.map(
                ({ text, page, level }) =>
                  html`<li key=${text}><${Badge} kind=${level}><a href=${`#/${page}`}>${text}</a><//></li>`,
              )}</ul>`
        }
      <//>
      <${Panel} title="What answers" aside=${html`<a href="#/try">Try it</a>`}>
        <ol class="list plain-list">
          <li><${Mark} index=${0} /> public model</li>
          ${experts.value.composed.map(
            ({ id, institution, name }, i) =>
              html`<li key=${id}><${Mark} index=${i + 1} /> ${institution} <span class="quiet">/ ${name}</span></li>`,
          )}
        </ol>
        ${experts.value.routerNote && html`<p class="quiet">${experts.value.routerNote}</p>`}
      <//>
      <${Panel} title="Members" aside=${html`<span class="quiet">${connected.length} of ${active.length} connected</span>`}>
        <ul class="list">${[...active]
          .sort((a, b) => Number(a.connected) - Number(b.connected))
          .slice(0, MAX_MEMBERS)
          .map(
            ({ peerId, institution, isSelf, connected: isConnected }) =>
              html`<li key=${peerId}><${Badge} kind=${isConnected ? 'good' : 'warn'}>${institution}<//>${' '}<span class="quiet">${isSelf ? 'this node' : isConnected ? 'connected' : 'away'}</span></li>`,
          )}</ul>
        ${active.length > MAX_MEMBERS && html`<p><a href="#/network">and ${active.length - MAX_MEMBERS} more</a></p>`}
      <//>
      <${Panel} title="Runs now" aside=${html`<a href="#/train">Train</a>`}>
        <${Running} jobs=${running.value} packages=${experts.value.packages} />
      <//>
    </div>`
}

function Health({ waiting }) {
  const bad = waiting.filter(({ level }) => level === 'bad').length
  const kind = bad > 0 ? 'bad' : waiting.length > 0 ? 'warn' : 'good'
  const words =
    waiting.length === 0
      ? 'Everything is well.'
      : `${count(waiting.length, 'thing waits', 'things wait')} for you.`
  return html`<p class=${`health health-${kind}`} role="status">${words}</p>`
}

function Running({ jobs: state, packages }) {
  const started = useRead(jobs, [], 5000)
  const lines = [
    ...(state?.running ?? []).map(
      ({ what, progress }) => `${what}${progress === undefined ? '' : `, ${progress}`}`,
    ),
    ...(state?.waiting ?? []).map((name) => `training ${name} waits`),
    ...packages.filter(isUnderWay).map((one) => {
      const more = explain(one)
      return `${one.institution ?? 'unknown'}/${one.expert ?? ''}: ${stateOf(one).words}${more === undefined ? '' : `, ${more}`}`
    }),
  ]
  const left = (started.value ?? [])
    .filter(({ state: s }) => s === 'running')
    .map(({ progress }) => progress?.secondsLeft)
  return lines.length === 0
    ? html`<p class="quiet">Nothing is being computed.</p>`
    : html`<ul class="list">${lines.map((line) => html`<li key=${line}>${line}</li>`)}</ul>
        ${left[0] !== undefined && html`<p class="quiet">${duration(left[0])} left</p>`}`
}
