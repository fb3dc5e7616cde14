import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { domainsOf } from '../../src/cli/domains.ts'
import { pictureFile } from '../../src/cli/routing-picture.ts'
import {
  type DomainReport,
  type EvaluationReport,
  evaluateText,
  type ScoreProgress,
} from '../../src/commands/evaluate.ts'
import { begin, flexmesh, kill, line } from '../support/command-line.ts'
import { cleanUp, EXAMPLES, folder } from '../support/folders.ts'
import { network, run } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** A home whose node has composed two experts of its own, and texts to score. */
let home: string
let open: () => ReturnType<Awaited<ReturnType<typeof network>>['open']>
let law: string
let notes: string

beforeAll(async () => {
  const net = await network(['Archive'], await tinyModel())
  const [node] = net.nodes as [(typeof net.nodes)[0]]
  law = await piece('archive', 'law.txt', 9000)
  for (const [name, data] of [
    ['law', law],
    ['logic', await piece('university', 'logic.txt', 9000)],
  ] as const) {
    await run(node, 'train', { name, data: [data], steps: 2 })
    await run(node, 'publish', { name })
  }
  await net.close()
  home = net.homes[0] as string
  open = () => net.open(0)
  notes = await piece('hospital', 'notes.md', 4000)
}, 300_000)

afterAll(cleanUp)

/** The beginning of sample text as a file of its own. */
async function piece(institution: string, name: string, characters: number): Promise<string> {
  const dir = join(EXAMPLES, institution, 'text')
  const [first] = (await readdir(dir)).sort()
  const path = join(await folder(), name)
  await writeFile(path, (await readFile(join(dir, first as string), 'utf8')).slice(0, characters))
  return path
}

const evaluate = (...args: string[]) => flexmesh('evaluate', '--home', home, '--threads', '1', ...args)

describe('flexmesh evaluate', () => {
  it('prints a table of the domains given, the routing, and what to know about the text', async () => {
    const picture = join(await folder(), 'routing.svg')
    const { code, stdout, stderr } = await evaluate(
      ...['--data', law, `ward notes=${notes}`, '--kilobytes', '3', '--opt-out', '--picture', picture],
    )
    expect([code, stderr]).toEqual([0, ''])
    const lines = stdout.split('\n')
    const head = lines.find((text) => text.startsWith('model ')) ?? ''
    expect(head.split(/ {3,}/)).toEqual(['model', 'law', 'ward notes', 'public text', 'macro'])
    const labels = lines
      .filter((text) => / \d\.\d{3}| \d{2}\.\d{3}/.test(text))
      .map((text) => text.split(/ {3,}/)[0])
    expect(labels[0]).toBe('public model')
    expect(labels.slice(1).sort()).toEqual(
      [
        'public model + Archive/law',
        'public model + Archive/logic',
        'composition',
        'composition without Archive/law',
        'composition without Archive/logic',
      ].sort(),
    )
    expect(stdout).toContain('law: only the first 3.0 kB of its text were scored')
    expect(stdout).toContain('ward notes: 3.0 kB is little text')
    expect(stdout).toContain('training "law" here has read this text')
    expect(stdout).not.toContain('training "logic"')
    expect(stdout).not.toContain('\u001b')
    const svg = await readFile(picture, 'utf8')
    expect(svg).toContain('ward notes')
    // Three domains, three experts, two layers.
    expect(svg.match(/class="cell"/g)).toHaveLength(18)
  }, 240_000)

  it('gives the same to --json, with or without a running node', async () => {
    const args = ['--data', law, '--data', notes, '--kilobytes', '2', '--json']
    const alone = await evaluate(...args)
    const node = begin('start', '--home', home, '--port', '0', '--threads', '1')
    try {
      await line(node, 'is up as')
      const running = await evaluate(...args)
      expect([alone.code, running.code]).toEqual([0, 0])
      expect(running.stdout.trimEnd().split('\n')).toHaveLength(1)
      const [one, other] = [alone, running].map(({ stdout }) => JSON.parse(stdout) as EvaluationReport)
      expect(other).toEqual(one)
      const { domains, macro, experts, without } = one as EvaluationReport
      expect(domains.map(({ name }) => name)).toEqual(['law', 'notes', 'public text'])
      expect(experts.map(({ name }) => name).sort()).toEqual(['law', 'logic'])
      // As one text: the mean of the domains given, by their bytes.
      const [first, second] = domains.slice(0, 2) as [DomainReport, DomainReport]
      const pooled = first.bitsPerByte.composed * first.bytes + second.bitsPerByte.composed * second.bytes
      expect(one?.composed).toBeCloseTo(pooled / (first.bytes + second.bytes), 9)
      expect(macro.public).toBeCloseTo(domains.reduce((sum, d) => sum + d.bitsPerByte.public, 0) / 3, 9)
      expect(Object.keys(without ?? {}).sort()).toEqual(['Archive/law', 'Archive/logic'])
      for (const { layerShares } of domains) {
        for (const shares of layerShares) expect(shares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4)
      }
    } finally {
      await kill(node)
    }
  }, 300_000)

  it('says in one sentence what is wrong, and ends with 2 for wrong usage', async () => {
    const short = join(await folder(), 'short.txt')
    await writeFile(short, 'A few words.')
    for (const [code, said, args] of [
      [1, 'too little text to score, 12 bytes; at least 1000 are needed, and 16000 or more', [short]],
      [2, '"x" would be the name of', [`x=${law}`, `x=${short}`]],
    ] as const) {
      const ended = await evaluate('--data', ...args)
      expect([args, ended.code, ended.stdout]).toEqual([args, code, ''])
      expect(ended.stderr).toMatch(/^flexmesh: [^\n]+\n$/)
      expect(ended.stderr).toContain(said)
    }
  }, 300_000)
})

describe('names of domains', () => {
  const named = async (...given: string[]): Promise<string[]> =>
    (await domainsOf(given, 'own')).map(({ name }) => name)

  it('are those of file or folder, with the folder above where they clash, or as given', async () => {
    const dir = await folder()
    for (const path of ['a/text', 'b/text', 'c=d']) await mkdir(join(dir, path), { recursive: true })
    for (const path of ['law.jsonl', 'own.txt', 'bell\u0007.txt']) await writeFile(join(dir, path), 'x')
    const at = (path: string): string => join(dir, path)
    expect(await named(at('a/text'), at('b/text'), at('law.jsonl'))).toEqual(['a/text', 'b/text', 'law'])
    expect(await named(`old law=${at('law.jsonl')}`, at('c=d'), at('bell\u0007.txt'))).toEqual([
      'old law',
      'c=d',
      'bell?',
    ])
    expect(await named(at('own.txt'))).toEqual([`${basename(dir)}/own`])
  })

  it('are refused where two are the same, taken or unprintable, and paths where nothing is', async () => {
    for (const [given, code, said] of [
      [['/no/such/text'], 'not-found', '/no/such/text does not exist'],
      [[law, law], 'usage', '--data NAME=PATH'],
      [[`x=${law}`, `x=${notes}`], 'usage', `${law} as well as ${notes}`],
      [[`public text=${law}`], 'usage', 'another column'],
      [[`own=${law}`], 'usage', 'another column'],
      [[`a\u001b[2J=${law}`], 'usage', 'printable'],
      [[`${'x'.repeat(41)}=${law}`], 'usage', '1 to 40'],
    ] as const) {
      const refusal = domainsOf(given, 'own')
      await expect(refusal, said).rejects.toThrow(said)
      await expect(refusal, said).rejects.toMatchObject({ code })
    }
  })

  it('and of a picture are looked at before the work', async () => {
    await expect(pictureFile('/tmp/routing.png')).rejects.toMatchObject({ code: 'usage' })
    await expect(pictureFile('/no/such/dir/a.svg')).rejects.toMatchObject({ code: 'not-found' })
  })
})

describe('the command evaluate of a node', () => {
  it('refuses a folder without text and a training without text', async () => {
    const node = await open()
    try {
      const data = [{ name: 'x', path: await folder() }]
      await expect(run(node, 'evaluate', { data })).rejects.toMatchObject({ code: 'empty' })
      await expect(run(node, 'evaluate', { name: 'unknown' })).rejects.toMatchObject({ code: 'not-found' })
    } finally {
      await node.close()
    }
  }, 120_000)

  it('tells how far it is, and stops when told to', async () => {
    const node = await open()
    try {
      const abort = new AbortController()
      const command = evaluateText(node, { data: [{ name: 'law', path: law }] }, abort.signal)
      const { value } = await command.next()
      expect(value).toMatchObject({ stage: 'score', domain: 'law' })
      const { done, total } = value as ScoreProgress
      expect(done).toBeLessThan(total)
      abort.abort()
      await expect(
        (async () => {
          while ((await command.next()).done !== true);
        })(),
      ).rejects.toThrow('abort')
    } finally {
      await node.close()
    }
  }, 120_000)

  it('cuts giant text at a whole character, whatever document it is in', async () => {
    const node = await open()
    try {
      const dir = join(await folder(), 'giant')
      await mkdir(dir)
      await writeFile(join(dir, 'a.jsonl'), `${JSON.stringify({ text: 'é'.repeat(700) })}\n`.repeat(3))
      const data = [{ name: 'giant', path: dir }]
      const { domains } = await run<EvaluationReport>(node, 'evaluate', {
        data,
        maxBytes: 2001,
        optOut: false,
      })
      expect(domains).toEqual([
        expect.objectContaining({ name: 'giant', bytes: 2000, documents: 2, cut: true }),
      ])
      expect(domains[0]?.bitsPerByte.without).toBeUndefined()
      const whole = await run<EvaluationReport>(node, 'evaluate', { data, maxBytes: 4200 })
      expect(whole.domains[0]).toMatchObject({ bytes: 4200, documents: 3, cut: false })
    } finally {
      await node.close()
    }
  }, 120_000)
})
