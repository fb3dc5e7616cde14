/** What an owner reads and answers before and after a publication. */
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runProgram } from '../../src/cli/program.ts'
import { EXPERTS } from '../../src/commands/experts.ts'
import { packageLine } from '../../src/commands/package-lines.ts'
import type { PublishResult } from '../../src/commands/publish.ts'
import { PUBLISH } from '../../src/commands/publish.ts'
import { releaseLines } from '../../src/commands/release-lines.ts'
import { endingConsents } from '../../src/node/consent-warnings.ts'
import type { NodeEvent } from '../../src/node/events.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { PackageReport } from '../../src/node/packages.ts'
import { trained } from '../support/command-homes.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, now, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const DAY = 86_400
const PLAIN = { color: false }

afterEach(cleanUp)

describe('the command publish', () => {
  let net: TestNetwork
  let hospital: FlexMeshNode
  /** Seconds by which the clocks of all nodes are ahead. */
  let ahead: number
  let events: NodeEvent[]

  beforeEach(async () => {
    ahead = 0
    events = []
    net = await network(['Hospital', 'Archive'], await tinyModel(), { now: () => now() + ahead })
    ;[hospital] = net.nodes as [FlexMeshNode]
    await train(hospital, 'ward', 'hospital')
  })
  afterEach(() => net.close())

  const publish = (options: object = {}): Promise<PublishResult> =>
    run<PublishResult>(hospital, 'publish', { name: 'ward', noAudit: true, ...options })

  it('says what leaves, to whom, until when, and how to undo it', async () => {
    const { id, summary } = await publish({ domain: 'wards' })
    const lines = PUBLISH.words({ ...(id === undefined ? {} : { id }), summary }, PLAIN).join('\n')
    const until = new Date((now() + 180 * DAY) * 1000).toISOString().slice(0, 10)
    expect(summary).toMatchObject({
      recipients: ['Archive'],
      license: 'LicenseRef-consortium-only',
      replaces: [],
    })
    expect(lines).toContain(`published ward as ${id}`)
    expect(lines).toMatch(/file +\d+\.\d MB, signed: weights \(BF16\), router rows and biases of 2 layers/)
    expect(lines).toMatch(
      /statistics +how often each of 4096 tokens occurs in the text, over \d+ documents, exact/,
    )
    expect(lines).toMatch(/domain "wards", \d+ documents, \d+ tokens, 1 steps, .* bits per byte on own text/)
    expect(lines).toMatch(/audit +none, and the package says so/)
    expect(lines).toContain('LicenseRef-consortium-only\n')
    expect(lines).toMatch(/to +Archive; also to institutions that join later/)
    expect(lines).toContain(`until       ${until}`)
    expect(lines).toContain('flexmesh withdraw ward')
  })

  it('says what the audit found, and other members read it', async () => {
    const { id, summary } = await publish({ noAudit: false })
    const lines = PUBLISH.words({ ...(id === undefined ? {} : { id }), summary }, PLAIN).join('\n')
    expect(lines).toMatch(
      /audit +no canaries; 0 of \d+ pieces of training text extracted; \d+ of \d+ recognised at 1 % false accusations; report [0-9a-f]{12}/,
    )
    const { packages } = await run<{ packages: PackageReport[] }>(hospital, 'experts', {})
    expect(packages[0]?.audit).toEqual(summary.audit)
    expect(packages.map(packageLine).join('\n')).toContain('; audited; ')
  })

  it('refuses a reason for a risk that no audit measures', async () => {
    await expect(publish({ acceptRisk: 'no matter' })).rejects.toMatchObject({ code: 'usage' })
  })

  it('says the same with --dry-run, and publishes nothing', async () => {
    const before = await hospital.catalogue.tip(hospital.identity.peerId)
    const dry = await publish({
      dryRun: true,
      license: 'CC0-1.0',
      rank: 2,
      statistics: 'noised',
      epsilonMilli: 8000,
    })
    expect(dry.id).toBeUndefined()
    expect(dry.summary).toMatchObject({ rank: 2, statistics: { epsilonMilli: 8000 } })
    const lines = PUBLISH.words(dry, PLAIN).join('\n')
    expect(lines).toContain('ward would leave this machine:')
    expect(lines).toContain('with noise of epsilon 8')
    expect(lines).toContain('CC0-1.0, which may let everybody')
    expect(inUse(hospital)).toEqual([])
    expect(await hospital.catalogue.tip(hospital.identity.peerId)).toEqual(before)
  })

  it('refuses with --dry-run what it would refuse without', async () => {
    await expect(publish({ dryRun: true, license: 'my/licence' })).rejects.toMatchObject({
      code: 'bad-field',
    })
    await expect(run(hospital, 'publish', { name: 'other', dryRun: true })).rejects.toMatchObject({
      code: 'not-found',
    })
  })

  it('of a name that is published replaces the package, and says so before and after', async () => {
    const first = await publish()
    const dry = await publish({ dryRun: true })
    expect(dry.summary.replaces).toEqual([first.id])
    expect(releaseLines(dry.summary).join('\n')).toContain('replaces')
    const second = await publish({ domain: 'wards' })
    expect(second.summary.replaces).toEqual([first.id])
    expect(PUBLISH.words(second, PLAIN)[0]).toContain('replaces the earlier package')
    await net.watch.until('one package at every node', () =>
      net.nodes.every((node) => inUse(node).join() === second.id),
    )
  })

  it.each([
    [140, undefined],
    [151.5, 'in 28 days'],
    [174.5, 'in 5 days'],
    [179.5, 'today'],
  ])('%d days ago is followed by a reminder of the end of the consent: %s', async (days, when) => {
    await publish()
    await net.accepted(1)
    ahead = days * DAY
    const lines = await Promise.all(
      net.nodes.map(async (node) =>
        EXPERTS.words(await run<Parameters<typeof EXPERTS.words>[0]>(node, 'experts'), PLAIN).join('\n'),
      ),
    )
    if (when === undefined) expect(lines.join('\n')).not.toContain('warning')
    else {
      expect(lines[0]).toContain(`warning: your consent for ward ends on`)
      expect(lines[0]).toContain(`${when}; to renew it, run: \`flexmesh publish ward\``)
      expect(lines[1]).toContain('the consent of Hospital for ward ends on')
    }
  })

  it('is followed by one event 30 days before the end of the consent, and one 7 days before', async () => {
    await net.close()
    net = await network(['Hospital'], await tinyModel(), {
      now: () => now() + ahead,
      onEvent: (event) => events.push(event),
    })
    ;[hospital] = net.nodes as [FlexMeshNode]
    await train(hospital, 'ward', 'hospital')
    await publish()
    for (const days of [140, 151, 152, 174, 175, 178]) {
      ahead = (days + 0.5) * DAY
      await hospital.upkeep()
    }
    const endings = events.filter(({ event }) => event === 'consent-ending')
    expect(endings).toMatchObject([{ daysLeft: 28 }, { daysLeft: 5 }])
  })

  it('renews the consent when it is given again', async () => {
    await publish()
    ahead = 170 * DAY
    await publish()
    expect(endingConsents(hospital.accepted.manifests(), hospital.now())).toEqual([])
  })
})

describe('flexmesh publish on a terminal', () => {
  /** Run a command line on a terminal whose user types `answer`. */
  async function onTerminal(answer: string, ...args: string[]) {
    let stdout = ''
    const write = (text: string): void => {
      stdout += text
    }
    const stdin = Object.assign(new PassThrough(), { isTTY: true })
    stdin.end(answer)
    const streams = { stdin, stdout: { isTTY: true, write }, stderr: { isTTY: true, write } }
    const code = await runProgram(args, streams, new AbortController().signal)
    return { code, stdout }
  }

  async function published(home: string): Promise<number> {
    const { stdout } = await flexmesh('experts', '--home', home, '--json')
    return (JSON.parse(stdout) as { composed: unknown[] }).composed.length
  }

  it('publishes nothing after any answer but yes', async () => {
    const home = await trained()
    for (const answer of ['n\n', '\n', 'yes please\n', '']) {
      const { code, stdout } = await onTerminal(answer, 'publish', 'law', '--home', home)
      expect(code).toBe(1)
      expect(stdout).toContain('law would leave this machine:')
      expect(stdout).toContain('Publish law? [y/N]')
      expect(stdout).toContain('nothing was published')
    }
    expect(await published(home)).toBe(0)
  })

  it('publishes after yes', async () => {
    const home = await trained()
    const { code, stdout } = await onTerminal('Y\n', 'publish', 'law', '--home', home)
    expect(code).toBe(0)
    expect(stdout).toContain('published law as sha256:')
    expect(await published(home)).toBe(1)
  })

  it('does not ask with --yes, nor with --dry-run', async () => {
    const home = await trained()
    const dry = await onTerminal('', 'publish', 'law', '--home', home, '--dry-run')
    expect(dry).toMatchObject({ code: 0, stdout: expect.not.stringContaining('[y/N]') })
    const sure = await onTerminal('', 'publish', 'law', '--home', home, '--yes')
    expect(sure).toMatchObject({ code: 0, stdout: expect.not.stringContaining('[y/N]') })
    expect(await published(home)).toBe(1)
  })
})
