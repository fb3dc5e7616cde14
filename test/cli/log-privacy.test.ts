/** What must be in no log line, metric, event or stored file of a node that logs everything. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { callControl } from '../../src/serving/control-client.ts'
import { homePaths } from '../../src/store/home.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterAll(cleanUp)

const PROMPT = 'Wohlgemuth-prompt'
const TEXT = 'Ostheimer-text'
const FILE = 'Kruse-file'
const PASSPHRASE = 'Lindqvist-passphrase'
const WRONG_KEY = 'fm-wrong-key-Abernathy'

it('prompts, answers, texts, keys, passphrases and private losses stay out of logs, metrics, events and files', async () => {
  const dir = await folder()
  const home = join(dir, 'home')
  const secret = join(dir, 'secret')
  await writeFile(secret, PASSPHRASE, { mode: 0o600 })
  const own = ['--home', home, '--passphrase-file', secret]
  const done = async (...args: string[]) => {
    const ended = await flexmesh(...args)
    expect(ended.stderr, args.join(' ')).toBe('')
    return ended.stdout
  }
  await done('init', ...own, '--institution', 'Hospital', '--no-mdns', '--listen', '/ip4/127.0.0.1/tcp/0')
  await done('consortium', 'create', ...own, '--public-model', await tinyModel(), '--name', 'Test')
  const log = ['--log-level', 'trace', '--log-format', 'json']
  const node = start('start', ...own, '--port', '0', ...log)
  const [, url = ''] = /(http\S+)\/v1,/.exec(await node.line('API     http://')) ?? []

  const data = join(dir, `${FILE}.txt`)
  const text = await readFile(await shortText('archive'), 'utf8')
  await writeFile(data, text.replaceAll('.', ` ${TEXT}.`))
  const steps: unknown[] = []
  const result = await callControl(
    homePaths(home).control,
    'train',
    { name: 'law', data: [data], steps: 2 },
    { signal: new AbortController().signal, onProgress: (event) => steps.push(event) },
  )
  // Only numbers with so many digits that nothing else is equal to them by chance.
  const losses = numbersIn([steps, result]).filter((value) => value > 0.1 && String(value).length > 7)
  expect(steps).toContainEqual(expect.objectContaining({ loss: expect.any(Number) }))

  const { key } = JSON.parse(await done('keys', 'create', 'library', '--home', home, '--json')) as {
    key: string
  }
  const operatorKey = (await readFile(homePaths(home).apiKey, 'utf8')).trim()
  const authorization = `Bearer ${key}`
  const ask = async (path: string, body: string, given = authorization): Promise<string> => {
    const response = await fetch(`${url}${path}?q=${PROMPT}`, {
      method: 'POST',
      headers: { authorization: given, 'content-type': 'application/json' },
      body,
    })
    return response.text()
  }
  const prompt = { model: 'flexmesh', prompt: PROMPT, max_tokens: 24 }
  const answer = JSON.parse(await ask('/v1/completions', JSON.stringify(prompt))) as {
    choices: [{ text: string }]
  }
  const answered = answer.choices[0].text
  expect(answered.length).toBeGreaterThan(8)
  const messages = [{ role: 'user', content: PROMPT }]
  await ask(
    '/v1/chat/completions',
    JSON.stringify({ model: 'flexmesh', messages, stream: true, max_tokens: 4 }),
  )
  await ask('/v1/completions', JSON.stringify({ ...prompt, temperature: PROMPT }))
  await ask('/v1/completions', `{"prompt": ${PROMPT}`)
  await ask('/v1/completions', JSON.stringify(prompt), `Bearer ${WRONG_KEY}`)
  await ask('/tokenize', JSON.stringify({ prompt: PROMPT }))
  await done('generate', PROMPT, '--max-tokens', '4', '--home', home)

  const metrics = await (await fetch(`${url}/metrics`, { headers: { authorization } })).text()
  expect(metrics).toContain('flexmesh_generation_tokens_total')
  const events = await eventsOf(url, await done('dashboard', '--home', home))
  expect(events).toContain('"event":"training"')
  const { stdout, stderr } = await node.interrupt()
  expect(stderr).toContain('"level":"trace"')

  const places = {
    'standard output': stdout,
    'standard error': stderr.replaceAll(/"time":"[^"]*"/g, ''),
    metrics,
    events,
    ...(await storedBy(home)),
  }
  const never = [
    PROMPT,
    TEXT,
    FILE,
    PASSPHRASE,
    WRONG_KEY,
    key,
    operatorKey,
    answered,
    JSON.stringify(answered),
  ]
  for (const [place, content] of Object.entries(places)) {
    for (const word of never) expect(content.includes(word), `${word} in ${place}`).toBe(false)
    if (place.endsWith('.json') || place.startsWith('egress')) continue
    for (const loss of losses.flatMap((value) => [value.toFixed(5), String(value)]))
      expect(content.includes(loss), `${loss} in ${place}`).toBe(false)
  }
})

/** What a page of the dashboard receives, whose link is in `printed`. */
async function eventsOf(url: string, printed: string): Promise<string> {
  const [, link = ''] = /#enter=(\S+)/.exec(printed) ?? []
  const page = { 'x-flexmesh-page': '1', 'content-type': 'application/json' }
  const body = JSON.stringify({ link })
  const { headers } = await fetch(`${url}/dashboard/session`, { method: 'POST', headers: page, body })
  const cookie = headers.get('set-cookie')?.split(';')[0] ?? ''
  const response = await fetch(`${url}/dashboard/events`, { headers: { cookie } })
  let text = ''
  // The first chunks hold all earlier events, then a comment.
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString()
    if (/^:/m.test(text)) break
  }
  return text
}

/** The files in a home but for the training, which holds the text, and the files that hold keys or weights. */
async function storedBy(home: string): Promise<Record<string, string>> {
  const apart = ['training', 'blobs', 'public-model']
  const found: Record<string, string> = {}
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const name = path.slice(home.length + 1)
    if (!entry.isFile() || apart.some((one) => name.startsWith(one)) || name === 'api-key') continue
    found[name] = (await readFile(path)).toString('latin1')
  }
  return found
}

/** Numbers that depend on the text, so none of those about time and memory. */
function numbersIn(value: unknown): number[] {
  if (typeof value === 'number') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) =>
    /^(seconds|cost)/.test(name) ? [] : numbersIn(inner),
  )
}
