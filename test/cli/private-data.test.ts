import { mkdir, readdir, readFile, rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { pathExists } from '../../src/lib/files.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { PrivateFile } from '../../src/owner/private-data.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { start as begin, finish, LENIENT, network, publish, run, train } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterAll(cleanUp)

interface Forgotten {
  readonly isDeleted: boolean
  readonly isPublished: boolean
  readonly files: readonly PrivateFile[]
}

/** A node with a finished training named `law`. */
async function owner() {
  const net = await network(['Archive'], await tinyModel(), { policy: LENIENT })
  const [node] = net.nodes as [FlexMeshNode]
  await train(node, 'law', 'archive')
  return { net, node, home: net.homes[0] as string }
}

describe('flexmesh data', () => {
  it('lists every file of a training with what it holds, its size, age and mode', async () => {
    const { net, node, home } = await owner()
    await net.close()
    const { training } = node.paths
    await writeFile(join(training, 'law', 'canaries.json'), '[]', { mode: 0o640 })
    await mkdir(join(training, '.account'), { recursive: true, mode: 0o700 })
    await utimes(join(training, 'law', 'result.json'), 0, Date.now() / 1000 - 3 * 86_400)
    const { stdout } = await flexmesh('data', '--home', home)
    const names = await readdir(join(training, 'law'), { recursive: true, withFileTypes: true })
    for (const entry of names.filter((found) => found.isFile())) {
      expect(stdout).toContain(
        `training/law/${join(entry.parentPath, entry.name).slice(join(training, 'law').length + 1)}: `,
      )
    }
    expect(stdout).toMatch(/training\/law\/corpus\/train\.tokens: tokens of the text +\S+ \S+ +today +0600/)
    expect(stdout).toMatch(/training\/law\/corpus\/held-out\.tokens: tokens of the held-out text /)
    expect(stdout).toMatch(/training\/law\/canaries\.json: canaries +2 B +today +0640/)
    expect(stdout).toMatch(/training\/law\/result\.json: [^\n]+ 3 days old +0600/)
    expect(stdout).toMatch(/ training\/\.account\/: what each text has spent of its privacy/)
    expect(stdout).toMatch(/ key\.json: the secret key of the node /)
    expect(stdout).toMatch(/ egress\/: the egress ledger/)
    expect(stdout).toContain('warning: training/law/canaries.json has mode 0640, so others can read it if')
    expect(stdout).not.toContain('.replay')
  })
})

describe('flexmesh forget', () => {
  it('deletes all of a training, and keeps its published package in use', async () => {
    const { net, node } = await owner()
    const id = await publish(node, 'law')
    await mkdir(join(node.paths.training, '.account'), { recursive: true, mode: 0o700 })
    const preview = await run<Forgotten>(node, 'forget', { name: 'law', dryRun: true })
    expect(await pathExists(join(node.paths.training, 'law'))).toBe(true)
    const forgotten = await run<Forgotten>(node, 'forget', { name: 'law' })
    expect(forgotten).toMatchObject({ isDeleted: true, isPublished: true })
    expect(forgotten.files.map(({ path }) => path)).toEqual(preview.files.map(({ path }) => path))
    const left = await readdir(node.paths.training)
    expect(left.filter((name) => !name.startsWith('.'))).toEqual([])
    expect(left).toContain('.account')
    await net.restart(0)
    const [restarted] = net.nodes as [FlexMeshNode]
    expect(restarted.accepted.has(id)).toBe(true)
    await net.close()
  })

  it('refuses while the training runs, and one that does not exist', async () => {
    const net = await network(['Archive'], await tinyModel())
    const [node] = net.nodes as [FlexMeshNode]
    const training = begin(node, 'train', { name: 'law', data: [await shortText('archive')], steps: 1 })
    await training.next()
    await expect(run(node, 'forget', { name: 'law' })).rejects.toMatchObject({ code: 'exists' })
    await finish(training)
    await expect(run(node, 'forget', { name: 'other' })).rejects.toMatchObject({ code: 'not-found' })
    await expect(run(node, 'forget', { name: '../..' })).rejects.toMatchObject({ code: 'usage' })
    await net.close()
  })

  it('is finished by the next command if it was killed in between', async () => {
    const { net, node, home } = await owner()
    await net.close()
    const { training } = node.paths
    await rename(join(training, 'law'), join(training, '.forgotten-0123456789abcdef'))
    expect((await flexmesh('data', '--home', home)).stdout).not.toContain('law')
    expect(await readdir(training)).not.toContain('.forgotten-0123456789abcdef')
  })
})

describe('flexmesh egress', () => {
  it('shows, verifies and prunes what a running node sends, and what it has sent when it is stopped', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0')
    const port = /127\.0\.0\.1:(\d+)/.exec(await node.line('API     http'))?.[1]
    const key = (await readFile(join(home, 'api-key'), 'utf8')).trim()
    const answer = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'flexmesh', prompt: 'Hello', max_tokens: 3, temperature: 0, seed: 1 }),
    })
    expect(answer.status).toBe(200)
    await answer.text()
    const pattern = /API key [0-9a-f]{12}: answers of the API +1, \d tokens? +\d+ B/
    expect((await flexmesh('egress', '--home', home)).stdout).toMatch(pattern)
    expect((await flexmesh('egress', 'verify', '--home', home)).stdout).toMatch(
      /^all \d+ rows of the ledger are whole$/m,
    )
    await node.interrupt()
    expect((await flexmesh('egress', '--home', home)).stdout).toMatch(pattern)
    const verified = await flexmesh('egress', 'verify', '--home', home)
    const expectation = /--expect (\d+:[0-9a-f]{64})/.exec(verified.stdout)?.[1] as string
    expect((await flexmesh('egress', 'verify', '--expect', expectation, '--home', home)).code).toBe(0)
    const pruned = await flexmesh('egress', 'prune', '--before', '2100-01-01', '--home', home)
    expect(pruned.stdout).toMatch(/^removed \d+ rows; egress\/summary\.json has their totals, signed$/m)
    expect((await flexmesh('egress', '--home', home)).stdout).toMatch(pattern)
  })

  it('ends with 1 and names the first broken row of a ledger that was edited', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0')
    await node.line('is up as')
    await node.interrupt()
    const dir = join(home, 'egress')
    const [segment = ''] = (await readdir(dir)).filter((name) => name.startsWith('rows-'))
    await writeFile(
      join(dir, segment),
      (await readFile(join(dir, segment), 'utf8')).replace('the ledger', 'a ledger'),
    )
    const { code, stdout } = await flexmesh('egress', 'verify', '--home', home)
    expect(code).toBe(1)
    expect(stdout).toContain(`the ledger is broken at row 1 (egress/${segment}:1)`)
  })

  it.each([
    [['egress', 'verify', '--expect', '12'], 'expected the number and the hash of a row'],
    [['egress', 'prune'], '--before is missing'],
    [['egress', '--before', '2026-01-01'], 'only "egress prune" removes rows'],
    [['egress', '--since', 'yesterday'], 'expected a day as in 2026-11-28'],
    [['egress', 'verify', '--since', '2026-01-01'], 'not with "egress verify"'],
    [['egress', 'destroy'], 'expected verify or prune'],
  ])('refuses %j in a sentence', async (args, message) => {
    const { code, stderr } = await flexmesh(...args, '--home', await founded())
    expect(code).not.toBe(0)
    expect(stderr).toContain(message)
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  })
})
