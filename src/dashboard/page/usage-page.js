/** The page Usage: what the API has answered, by day, institution and key, and the keys with their limits. */
import { useState } from 'preact/hooks'
import { html } from './html.js'
import { run, useCommand } from './node.js'
import {
  Action,
  Confirm,
  Field,
  Loading,
  LongTable,
  Panel,
  Table,
  useOptional,
  usePage,
  useQuestion,
} from './parts.js'
import { day } from './words.js'

const SPANS = [7, 30, 365]

export function Usage() {
  const [days, setDays] = useState(SPANS[0])
  const { value, error } = useCommand('usage', { days })
  if (value === undefined) return html`<${Loading} error=${error} />`
  const { usage } = value
  return html`
    <label class="theme toolbar"><span class="unseen">Time</span><select onChange=${(event) => setDays(Number(event.target.value))}>${SPANS.map(
      (one) => html`<option value=${one} selected=${one === days}>last ${one} days</option>`,
    )}</select></label>
    <${Panel} title="Tokens answered, by day"><${Bars} rows=${byDay(usage)} /><//>
    <${Panel} title="Tokens answered, by institution">
      <${Bars} rows=${byInstitution(usage)} />
      <p class="quiet">By the routing weight of the experts that carried each token. Answers of an upstream server are not split.</p>
    <//>
    <${Panel} title="By key">
      <${Table} caption="What each key has used" rows=${byKey(usage)} keyOf=${({ key }) => key} empty="The API has answered nothing in this time."
        columns=${[{ name: 'Key', of: ({ key }) => key }, ...COUNTS]} />
    <//>
    <${Panel} title="By day and key">
      <${LongTable} caption="What each key has used on each day" rows=${[...usage].reverse()} keyOf=${({ day: date, key }) => `${date} ${key}`}
        textOf=${({ day: date, key }) => `${date} ${key}`} empty="The API has answered nothing in this time."
        columns=${[{ name: 'Day', isWhole: true, of: ({ day: date }) => date }, { name: 'Key', of: ({ key }) => key }, ...COUNTS]} />
      <p class="quiet">Days are in UTC. Answers on the page Try it are not counted. A running node writes its counts every half minute.</p>
    <//>
    <${Keys} />`
}

const number = (value) => value.toLocaleString('en')
const COUNTS = [
  { name: 'Requests', isNumber: true, of: ({ requests }) => number(requests) },
  { name: 'Prompt tokens', isNumber: true, of: ({ promptTokens }) => number(promptTokens) },
  { name: 'Tokens answered', isNumber: true, of: ({ generatedTokens }) => number(generatedTokens) },
]

function byKey(usage) {
  return [...groups(usage, ({ key }) => key)]
    .map(([key, sums]) => ({ key, ...sums }))
    .sort((a, b) => b.generatedTokens - a.generatedTokens)
}

/** Sums of the counts of entries, by what `groupOf` returns. */
function groups(usage, groupOf) {
  const sums = new Map()
  for (const entry of usage) {
    const before = sums.get(groupOf(entry)) ?? { requests: 0, promptTokens: 0, generatedTokens: 0 }
    sums.set(groupOf(entry), {
      requests: before.requests + entry.requests,
      promptTokens: before.promptTokens + entry.promptTokens,
      generatedTokens: before.generatedTokens + entry.generatedTokens,
    })
  }
  return sums
}

/** `[institution, tokens]`, the most first. */
function byInstitution(usage) {
  const sums = new Map()
  for (const { institution, tokens } of usage.flatMap(({ carried }) => carried))
    sums.set(institution, (sums.get(institution) ?? 0) + tokens)
  return [...sums].sort(([, a], [, b]) => b - a)
}

function byDay(usage) {
  return [...groups(usage, (entry) => entry.day)].map(([date, { generatedTokens }]) => [
    date,
    generatedTokens,
  ])
}

/** A bar for each row `[name, number]`; the number stands beside it. */
function Bars({ rows }) {
  if (rows.length === 0) return html`<p class="quiet">The API has answered nothing in this time.</p>`
  const most = Math.max(...rows.map(([, value]) => value), 1)
  return html`<ul class="shares">${rows.map(
    ([name, value]) => html`<li class="sum" key=${name}><span>${name}</span>
      <span class="share-bar"><span class="plain-bar" style=${{ width: `${(100 * value) / most}%` }}></span></span>
      <span class="number">${number(Math.round(value))}</span></li>`,
  )}</ul>`
}

/** The keys of people and programs, and their limits. */
function Keys() {
  const { role, say } = usePage()
  const { value, error, reload } = useCommand('keys')
  const [question, ask] = useQuestion()
  /** @type {import('./parts.js').Optional<{ name: string, key: string }>} */
  const [made, setMade] = useOptional()
  if (value === undefined) return html`<${Panel} title="Keys"><${Loading} error=${error} /><//>`
  const create = async (event) => {
    event.preventDefault()
    const given = new FormData(event.target)
    const quota = given.get('tokensPerDay')
    const days = given.get('days')
    try {
      const key = await run('keys', {
        action: 'create',
        name: given.get('name'),
        ...(quota === '' ? {} : { tokensPerDay: Number(quota) }),
        ...(days === '' ? {} : { days: Number(days) }),
      })
      setMade(key)
      event.target.reset()
      await reload()
    } catch (failure) {
      say(failure.message, 'bad')
    }
  }
  const revoke = (name) =>
    ask({
      title: `End the key of ${name}?`,
      text: 'Requests with it are refused from now on. This cannot be undone; you can make another key.',
      action: 'End the key',
      run: async () => {
        await run('keys', { action: 'revoke', name })
        say(`the key of ${name} has ended`)
        await reload()
      },
    })
  return html`<${Panel} title="Keys">
    ${
      made !== undefined &&
      html`<div class="secret" role="status"><p>The key of ${made.name}, shown this once:</p><pre><code>${made.key}</code></pre>
        <p><button type="button" onClick=${() => setMade(undefined)}>Hide</button></p></div>`
    }
    <${LongTable} caption="Keys of the API" rows=${value.keys} keyOf=${({ digest }) => digest} textOf=${({ name }) => name}
      empty="No keys but that of the home folder." columns=${[
        { name: 'Name', of: ({ name }) => name },
        { name: 'Made', isWhole: true, of: ({ createdAt }) => day(createdAt) },
        {
          name: 'Expires',
          isWhole: true,
          of: ({ expiresAt }) => (expiresAt === undefined ? 'never' : day(expiresAt)),
        },
        {
          name: 'Tokens a day',
          isNumber: true,
          of: ({ tokensPerDay }) => (tokensPerDay === undefined ? 'no limit' : number(tokensPerDay)),
        },
        { name: 'Experts', of: ({ experts }) => experts?.join(', ') ?? 'all' },
        {
          name: 'Actions',
          of: ({ name }) => html`<${Action} kind="small" onAct=${async () => revoke(name)}>End …<//>`,
        },
      ]} />
    ${
      role === 'operator' &&
      html`<form class="row" onSubmit=${create}>
        <${Field} label="Name of the new key"><input name="name" required maxlength="64" /><//>
        <${Field} label="Tokens a day"><input name="tokensPerDay" type="number" min="1" placeholder="no limit" /><//>
        <${Field} label="Days until it expires"><input name="days" type="number" min="1" max="3650" placeholder="never" /><//>
        <button type="submit">Make a key</button></form>`
    }
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />
  <//>`
}
