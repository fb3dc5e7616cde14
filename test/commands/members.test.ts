import { afterEach, describe, expect, it } from 'vitest'
import { MEMBERS, RENEW } from '../../src/commands/members.ts'
import type { ProposalReport } from '../../src/commands/proposal-lines.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { network, now, run } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const DAY = 86_400
const PLAIN = { color: false }
afterEach(cleanUp)

type Members = Parameters<typeof MEMBERS.words>[0]

/** A founder's node in the middle of a day, a number of whole days after the founding of its consortium. */
async function nodeAfter(days: number) {
  const net = await network(['Hospital'], await tinyModel(), { now: () => now() + (days + 0.5) * DAY })
  const [node] = net.nodes as [(typeof net.nodes)[0]]
  return { node, home: net.homes[0] as string, close: net.close }
}

async function linesAfter(days: number): Promise<string> {
  const { node, close } = await nodeAfter(days)
  const result = await run<Members>(node, 'members')
  await close()
  return MEMBERS.words(result, PLAIN).join('\n')
}

describe('the command members', () => {
  it('shows until when the roster runs', async () => {
    const { node, close } = await nodeAfter(0)
    const result = await run<Members>(node, 'members')
    await close()
    const { expiresAt } = node.membership.roster()
    expect(result.rosterExpiresAt).toBe(expiresAt)
    const day = new Date(expiresAt * 1000).toISOString().slice(0, 10)
    const [first] = MEMBERS.words(result, PLAIN)
    expect(first).toBe(`Test consortium, roster version 1, valid until ${day}`)
  })

  it.each([
    [320, undefined],
    [336, 'ends in 28 days'],
    [363, 'ends in 1 day'],
    [364, 'ends today'],
    [366, 'has ended'],
  ])('%d days after the founding: %s', async (days, warning) => {
    const lines = await linesAfter(days)
    if (warning === undefined) expect(lines).not.toContain('warning')
    else expect(lines).toContain(`warning: the roster ${warning}; the members confirm it`)
  })
})

describe('the command members of a node that is not running', () => {
  it('says so, and shows nobody as connected', async () => {
    const { home, close } = await nodeAfter(0)
    await close()
    const { stdout } = await flexmesh('members', '--home', home)
    expect(stdout).toContain('the node is not running; this is what its home folder holds\n')
    expect(stdout).toMatch(/^Hospital +12D3\w+ +founder +this node$/m)
    const { stdout: json } = await flexmesh('members', '--home', home, '--json')
    expect(JSON.parse(json)).toMatchObject({
      isRunning: false,
      addresses: [],
      members: [{ connected: false }],
    })
  })
})

describe('the command renew', () => {
  it('confirms the membership of everyone for another year', async () => {
    const { node, close } = await nodeAfter(350)
    const { rosterExpiresAt } = await run<{ rosterExpiresAt: number }>(node, 'renew')
    const { rosterDaysLeft, rosterVersion } = await run<Members>(node, 'members')
    await close()
    expect(node.membership.roster().expiresAt).toBe(rosterExpiresAt)
    expect(rosterVersion).toBe(2)
    expect(rosterDaysLeft).toBeGreaterThanOrEqual(364)
  })

  it('prints the new date', async () => {
    const rosterExpiresAt = Date.UTC(2027, 10, 28) / 1000
    const proposal = { state: 'applied' } as ProposalReport
    expect(RENEW.words({ proposal, rosterExpiresAt }, PLAIN)).toEqual([
      'the membership of everyone on the roster is confirmed until 2027-11-28',
    ])
  })

  it('can be written after "consortium"', async () => {
    const { home, close } = await nodeAfter(0)
    await close()
    const { code, stdout } = await flexmesh('consortium', 'renew', '--home', home)
    expect(code).toBe(0)
    expect(stdout).toMatch(/^the membership of everyone on the roster is confirmed until \d{4}-\d\d-\d\d\n$/)
  })
})
