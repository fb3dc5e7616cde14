import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EVALUATE } from '../../src/commands/evaluate.ts'
import type { DomainReport, EvaluationReport } from '../../src/commands/evaluation-report.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp, EXAMPLES, folder } from '../support/folders.ts'
import { network, run, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** A closed node that has composed two experts of its own, and texts to score. */
let net: TestNetwork
let law: string
let notes: string

beforeAll(async () => {
  net = await network(['Archive'], await tinyModel())
  const [node] = net.nodes as [FlexMeshNode]
  law = await excerpt('archive', 'law.txt', 9000)
  notes = await excerpt('hospital', 'notes.md', 4000)
  const logic = await excerpt('university', 'logic.txt', 9000)
  for (const [name, path] of [
    ['law', law],
    ['logic', logic],
  ] as const) {
    await run(node, 'train', { name, data: [path], steps: 2 })
    await run(node, 'publish', { name })
  }
  await net.close()
})
afterAll(cleanUp)

/** The beginning of a sample text as a file of its own. */
async function excerpt(institution: string, name: string, characters: number): Promise<string> {
  const dir = join(EXAMPLES, institution, 'text')
  const [first] = (await readdir(dir)).sort()
  const path = join(await folder(), name)
  await writeFile(path, (await readFile(join(dir, first as string), 'utf8')).slice(0, characters))
  return path
}

const evaluate = (...args: string[]) =>
  flexmesh('evaluate', '--home', net.homes[0] as string, '--threads', '1', ...args)

/** Use the node while it is open. */
async function opened<T>(use: (node: FlexMeshNode) => Promise<T>): Promise<T> {
  const node = await net.open(0)
  try {
    return await use(node)
  } finally {
    await net.close()
  }
}

describe('flexmesh evaluate', () => {
  it('prints a table of the given domains, the routing, and notes on the text', async () => {
    const texts = ['--data', law, `ward notes=${notes}`, '--kilobytes', '3']
    const { code, stdout, stderr } = await evaluate(...texts, '--opt-out')
    expect([code, stderr]).toEqual([0, ''])
    const lines = stdout.split('\n')
    const head = lines.find((text) => text.startsWith('model ')) ?? ''
    expect(head.split(/ {3,}/)).toEqual(['model', 'law', 'ward notes', 'public text', 'macro'])
    const [first, ...others] = lines
      .filter((text) => / \d{1,2}\.\d{3}/.test(text))
      .map((text) => text.split(/ {3,}/)[0])
    expect(first).toBe('public model')
    expect(others.sort()).toEqual([
      'composition',
      'composition without Archive/law',
      'composition without Archive/logic',
      'public model + Archive/law',
      'public model + Archive/logic',
    ])
    expect(stdout).toContain('law: only the first 3.0 kB of the text were scored')
    expect(stdout).toContain('ward notes: 3.0 kB is little text')
    expect(stdout).toContain('training "law" of this node has read this text')
    expect(stdout).not.toContain('training "logic"')
    expect(stdout).not.toContain('\u001b')
  })

  it('draws the routing of every domain with --picture', async () => {
    const picture = join(await folder(), 'routing.svg')
    const { stdout } = await evaluate('--data', law, notes, '--kilobytes', '2', '--picture', picture)
    expect(stdout).toContain(`routing picture written to ${picture}`)
    // Three domains, three experts, two layers.
    expect((await readFile(picture, 'utf8')).match(/class="cell"/g)).toHaveLength(18)
  })

  it.each([
    ['another ending', '/tmp/routing.png', 2],
    ['a folder that does not exist', '/no/such/folder/a.svg', 1],
  ])('refuses a picture with %s before it scores', async (_, picture, expected) => {
    const { code, stdout, stderr } = await evaluate('--data', law, '--picture', picture)
    expect([code, stdout]).toEqual([expected, ''])
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
  })

  it('prints the same JSON with and without a running node', async () => {
    const args = ['--data', law, '--data', notes, '--kilobytes', '2', '--json']
    const home = net.homes[0] as string
    const alone = await evaluate(...args)
    const node = start('start', '--home', home, '--port', '0', '--threads', '1')
    await node.line('is up as')
    // Without --threads, which a running node has its own of.
    const running = await flexmesh('evaluate', '--home', home, ...args)
    await node.interrupt()
    expect([alone.code, running.code]).toEqual([0, 0])
    expect(running.stdout.trimEnd().split('\n')).toHaveLength(1)
    const report = JSON.parse(alone.stdout) as EvaluationReport
    expect(JSON.parse(running.stdout)).toEqual(report)
    const { domains, macro, experts, without } = report
    expect(domains.map(({ name }) => name)).toEqual(['law', 'notes', 'public text'])
    expect(experts.map(({ name }) => name).sort()).toEqual(['law', 'logic'])
    // As one text: the mean of the given domains, weighted by their bytes.
    const [first, second] = domains.slice(0, 2) as [DomainReport, DomainReport]
    const pooled = first.bitsPerByte.composed * first.bytes + second.bitsPerByte.composed * second.bytes
    expect(report.composed).toBeCloseTo(pooled / (first.bytes + second.bytes), 9)
    expect(macro.public).toBeCloseTo(domains.reduce((sum, d) => sum + d.bitsPerByte.public, 0) / 3, 9)
    expect(Object.keys(without ?? {}).sort()).toEqual(['Archive/law', 'Archive/logic'])
    for (const { layerShares } of domains) {
      for (const shares of layerShares) expect(shares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4)
    }
  })

  it('refuses too little text with one sentence', async () => {
    const short = join(await folder(), 'short.txt')
    await writeFile(short, 'A few words.')
    const { code, stdout, stderr } = await evaluate('--data', short)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    expect(stderr).toContain(
      'too little text to score, 12 bytes; at least 1000 are needed, and 16000 or more',
    )
  })

  it('refuses two domains of one name as wrong usage', async () => {
    const { code, stderr } = await evaluate('--data', `x=${law}`, `x=${notes}`)
    expect(code).toBe(2)
    expect(stderr).toContain('"x" would be the name of')
  })
})

describe('the command evaluate of a node', () => {
  it('refuses a folder without text and a training without text', () =>
    opened(async (node) => {
      const data = [{ name: 'x', path: await folder() }]
      await expect(run(node, 'evaluate', { data })).rejects.toMatchObject({ code: 'empty' })
      await expect(run(node, 'evaluate', { name: 'unknown' })).rejects.toMatchObject({ code: 'not-found' })
    }))

  it('reports its progress, and stops when it is aborted', () =>
    opened(async (node) => {
      const abort = new AbortController()
      const request = EVALUATE.decode({ data: [{ name: 'law', path: law }] })
      const steps = EVALUATE.run(node, request, abort.signal)
      const { value } = await steps.next()
      expect(value).toMatchObject({ stage: 'score' })
      expect(value).toHaveProperty('done', expect.any(Number))
      abort.abort()
      const rest = (async () => {
        while ((await steps.next()).done !== true);
      })()
      await expect(rest).rejects.toThrow('abort')
    }))

  it('cuts long text after a whole character, in whichever document that is', () =>
    opened(async (node) => {
      const dir = join(await folder(), 'long')
      await mkdir(dir)
      await writeFile(join(dir, 'a.jsonl'), `${JSON.stringify({ text: 'é'.repeat(700) })}\n`.repeat(3))
      const data = [{ name: 'long', path: dir }]
      const cut = { data, maxBytes: 2001, optOut: false }
      const { domains } = await run<EvaluationReport>(node, 'evaluate', cut)
      expect(domains).toEqual([
        expect.objectContaining({ name: 'long', bytes: 2000, documents: 2, cut: true }),
      ])
      expect(domains[0]?.bitsPerByte.without).toBeUndefined()
      const whole = await run<EvaluationReport>(node, 'evaluate', { data, maxBytes: 4200 })
      expect(whole.domains[0]).toMatchObject({ bytes: 4200, documents: 3, cut: false })
    }))
})
