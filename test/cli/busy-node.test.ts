/** What commands say about a running node that computes, and about a home that another process uses. */
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Catalogue } from '../../src/store/catalogue.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh, type Run, start } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'

/** So many steps that the training lasts until it is interrupted. */
const ENDLESS = ['--steps', '1000000']

let home: string
let text: string
const running: Run[] = []

beforeEach(async () => {
  home = await founded()
  text = await shortText('archive')
})
afterEach(async () => {
  // Commands before their node.
  for (const one of running.splice(0).reverse()) await one.interrupt()
})
afterAll(cleanUp)

async function startNode(): Promise<Run> {
  const node = start('start', '--home', home, '--port', '0')
  running.push(node)
  await node.line('is up as')
  return node
}

function train(name: string): Run {
  const run = start('train', '--home', home, '--name', name, '--data', text, ...ENDLESS)
  running.push(run)
  return run
}

/** Repeats `jobs` until its output matches. */
async function jobsShow(pattern: RegExp): Promise<string> {
  for (;;) {
    const { code, stdout, stderr } = await flexmesh('jobs', '--home', home)
    expect([code, stderr]).toEqual([0, ''])
    if (pattern.test(stdout)) return stdout
  }
}

describe('a node that trains', () => {
  it('shows the training and those that wait, and says how each of them was stopped', async () => {
    const node = await startNode()
    const law = train('law')
    await jobsShow(/^training law, step \d+ of 1000000, since \d\d:\d\d$/m)
    const music = train('music')
    await music.line('waiting for the training law of this node')
    expect(await jobsShow(/music/)).toMatch(/^training music waits$/m)

    const stopped = await law.interrupt()
    const sentence =
      /^flexmesh: the training law was stopped at step (\d+) of 1000000; run the same command to continue it\n$/
    expect(stopped).toMatchObject({ code: 130, stderr: expect.stringMatching(sentence) })
    const step = sentence.exec(stopped.stderr)?.[1]
    await node.line('training law: started')
    await node.line(`training law: stopped at step ${step} of 1000000; run the same command to continue it`)

    await jobsShow(/^training music, step/m)
    await node.interrupt()
    const { code, stderr } = await music.ended
    expect(code).toBe(1)
    expect(stderr).toMatch(/^flexmesh: the training music was stopped at step \d+ of 1000000; run the same/)
  })

  it('refuses an import into the folder that it trains in, from another process too', async () => {
    await startNode()
    train('law')
    await jobsShow(/training law/)
    const { code, stderr } = await flexmesh('import-expert', await folder(), '--name', 'law', '--home', home)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^flexmesh: training "law" is running already; wait until it ends/)
  })
})

describe('a running node', () => {
  it('computes nothing at first', async () => {
    await startNode()
    expect((await flexmesh('jobs', '--home', home)).stdout).toBe('nothing is being computed\n')
  })

  it.each(['engine', 'device', 'threads', 'weights'])(
    'refuses --%s, which only a new node can follow',
    async (name) => {
      await startNode()
      const value = { engine: 'cpu', device: 'cpu', threads: '1', weights: 'int4' }[name] as string
      const { code, stderr } = await flexmesh('generate', 'x', '--home', home, `--${name}`, value)
      expect(code).toBe(2)
      expect(stderr).toMatch(
        new RegExp(`^flexmesh: --${name}: a node runs on \\S+ and computes with the engine`),
      )
    },
  )

  it('does not hide that a passphrase file is missing', async () => {
    await startNode()
    const missing = join(home, 'no-such-file')
    const { code, stderr } = await flexmesh('members', '--home', home, '--passphrase-file', missing)
    expect(code).toBe(1)
    expect(stderr).toContain(missing)
  })
})

describe('a home that another process uses', () => {
  it('is waited for if that is a node that starts', async () => {
    const catalogue = await Catalogue.open(home, 'flexmesh start')
    const members = start('members', '--home', home)
    expect(await members.line('waiting')).toBe(
      `waiting for the node of ${home} (process ${process.pid}), which is starting or stopping`,
    )
    await catalogue.close()
    expect((await members.ended).code).toBe(0)
  })

  it('names any other process, and asks for no passphrase', async () => {
    const catalogue = await Catalogue.open(home, 'flexmesh train')
    const used = `flexmesh: ${home} is in use by "flexmesh train" (process ${process.pid}); wait until it ends, or choose another --home\n`
    const imported = await flexmesh('import-expert', await folder(), '--name', 'law', '--home', home)
    expect([imported.code, imported.stderr]).toEqual([1, used])
    const members = await flexmesh('members', '--home', home)
    expect([members.code, members.stderr]).toEqual([1, used])
    await catalogue.close()
  })
})
