import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AgainstReport } from '../../src/commands/audit.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { KeptReport } from '../../src/privacy/audit-report.ts'
import { homePaths } from '../../src/store/home.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { network, run } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** The home of a closed node that has trained and published the expert `law`. */
let home: string
let law: string
let notes: string

beforeAll(async () => {
  const net = await network(['Archive'], await tinyModel())
  const [node] = net.nodes as [FlexMeshNode]
  law = await shortText('archive')
  notes = await shortText('hospital')
  await run(node, 'train', { name: 'law', data: [law], steps: 1, canaries: 20 })
  await run(node, 'publish', { name: 'law', noAudit: true })
  await net.close()
  home = net.homes[0] as string
})
afterAll(cleanUp)

const audit = (...args: string[]) => flexmesh('audit', '--home', home, '--threads', '1', ...args)

describe('flexmesh audit NAME', () => {
  it('prints what the attacks found and keeps the report', async () => {
    const { code, stdout } = await audit('law')
    expect(code).toBe(0)
    expect(stdout).toMatch(/canaries: \d+ of 10 guesses about 20 were right \(seed \d+\)/)
    expect(stdout).toMatch(/training text, expert +\d+ +0\.0 % +0\.0 % +0\.0 %/)
    expect(stdout).toMatch(/membership: \d+ pieces of training text among \d+ of held-out text/)
    expect(stdout).toContain('guarantee: none')
    expect(stdout).toContain('result: nothing was found that would stop a publication')
    const words = await readFile(join(homePaths(home).training, 'law', 'audit.txt'), 'utf8')
    expect(stdout).toContain(words.trimEnd())
  })

  it('prints the report as JSON, without telling which canaries were in the text', async () => {
    const { stdout } = await audit('law', '--json')
    const { report, digest } = JSON.parse(stdout) as KeptReport
    expect(digest).toMatch(/^sha256:/)
    expect(report).toMatchObject({ version: 1, outcome: 'pass', subject: { training: 'law', rank: 0 } })
    expect(stdout).not.toContain('isIncluded')
  })

  it('is refused for a training that was not finished, and without a name', async () => {
    expect((await audit('wards')).stderr).toContain('no finished training named wards')
    expect((await audit()).stderr).toContain('name a training')
  })
})

describe('flexmesh audit --against', () => {
  it('attacks an expert in use with text of this node', async () => {
    const { code, stdout } = await audit('--against', 'law', '--data', law, '--reference', notes)
    expect(code).toBe(0)
    expect(stdout).toContain('Archive/law:')
    expect(stdout).toMatch(/your text, public model +\d+/)
    expect(stdout).toMatch(/membership: \d+ pieces of your text among \d+ of reference text/)
    expect(stdout).not.toContain('give text of the same kind')
  })

  it('compares with public text if no reference is given, and says what that cannot show', async () => {
    const { stdout } = await audit('--against', 'Archive', '--data', law, notes)
    expect(stdout).toContain('of public text')
    expect(stdout).toContain('give text of the same kind with --reference')
    const { stdout: json } = await audit('--against', 'Archive', '--data', law, '--json')
    const report = JSON.parse(json) as AgainstReport
    expect(report).toMatchObject({ expert: 'law', institution: 'Archive', isReferencePublic: true })
    expect(report.membership.members).toBeGreaterThan(0)
  })

  it.each([
    [['--against', 'law'], 'text with --data'],
    [['--against', 'wards', '--data', 'x'], '"wards" names 0 experts in use'],
    [['--data', 'x'], 'an expert in use with --against'],
  ])('%j is refused', async (args, words) => {
    const { code, stderr } = await audit(...args)
    expect(code).not.toBe(0)
    expect(stderr).toContain(words)
  })
})
