/** What an owner learns about the account of its texts, and how a limit is set and kept. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PRIVACY } from '../../src/commands/privacy.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { network, publish, run, type TestNetwork } from '../support/network.ts'
import { codeOfAsync } from '../support/packages.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode

beforeEach(async () => {
  net = await network(['Hospital'], await tinyModel())
  ;[hospital] = net.nodes as [FlexMeshNode]
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

type Report = Parameters<typeof PRIVACY.words>[0]
const privacy = (args: object = {}): Promise<Report> => run<Report>(hospital, 'privacy', args)
const words = (report: Report): string => PRIVACY.words(report, { color: false }).join('\n')
const train = async (name: string, options: object = {}): Promise<unknown> =>
  run(hospital, 'train', { name, data: [await shortText('hospital')], steps: 1, ...options })

describe('the command privacy', () => {
  it('lists trainings and publications of a text, which has no bound once it was published without a guarantee', async () => {
    expect(words(await privacy())).toMatch(/^no limit; .*\nno text was trained on yet$/)
    await train('ward')
    await train('ward-again')
    const before = await privacy()
    expect(before.groups).toMatchObject([{ trainings: ['ward', 'ward-again'], epsilon: 0 }])
    await publish(hospital, 'ward', { dryRun: true })
    expect(await privacy()).toEqual(before)
    await publish(hospital, 'ward')
    const after = words(await privacy())
    expect(after).toMatch(/\nward {8,}\d+ {2,}\d{4}-\d\d-\d\d {2}0 {9}training without a guarantee\n/)
    expect(after).toMatch(
      /\nward {8,}\d+ {2,}\d{4}-\d\d-\d\d {2}no bound {2}publication without a guarantee\n/,
    )
    expect(after).toMatch(/\n {2}\d+ documents of ward, ward-again: no bound$/)
  })

  it('sets a limit, under which nothing without a guarantee is trained, exported or published', async () => {
    await train('ward')
    const set = await privacy({ action: 'limit', epsilon: '8', delta: '1e-5' })
    expect(words(set)).toContain('limit: epsilon 8 at delta 1e-5 for each document')
    expect(set.groups).toMatchObject([{ epsilon: 0, left: 8 }])
    expect(await codeOfAsync(() => train('other'))).toBe('over-budget')
    expect(await codeOfAsync(() => train('other', { exportPair: '/nowhere' }))).toBe('over-budget')
    expect(await codeOfAsync(() => publish(hospital, 'ward'))).toBe('over-budget')
    expect(await codeOfAsync(() => publish(hospital, 'ward', { dryRun: true }))).toBe('over-budget')
    expect((await privacy()).groups).toMatchObject([{ epsilon: 0 }])
    expect((await privacy({ action: 'limit', epsilon: 'none' })).limit).toBeNull()
    await publish(hospital, 'ward')
  })

  it('refuses what it does not understand and changes nothing', async () => {
    const refused: readonly (readonly [object, string])[] = [
      [{ action: 'budget' }, 'expected nothing or "limit", got "budget"'],
      [{ action: 'limit' }, 'expected an epsilon'],
      [{ action: 'limit', epsilon: '0' }, 'expected a number from 0.001 to 1000000, got "0"'],
      [{ action: 'limit', epsilon: 'eight' }, 'got "eight"'],
      [
        { action: 'limit', epsilon: '8', delta: '1' },
        '--delta: expected a number from 1e-15 to 0.1, got "1"',
      ],
      [{ action: 'limit', epsilon: 'none', delta: '1e-5' }, 'leave out --delta'],
      [{ delta: '1e-5' }, '--delta belongs to "privacy limit EPSILON"'],
    ]
    for (const [args, message] of refused) await expect(privacy(args)).rejects.toThrow(message)
    expect((await privacy()).limit).toBeNull()
  })
})
