/**
 * What a process leaves behind that is killed while it proposes and endorses. FLEXMESH_KILLS sets how often it is killed,
 * FLEXMESH_SEED the seed of the moments.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, it } from 'vitest'
import { readEnvelope } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { consortium, identityOf, NOW } from '../support/consortium.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { closeLedgers, openLedger } from '../support/ledger.ts'

const KILLS = Number(process.env['FLEXMESH_KILLS'] ?? 3)
const SEED = Number(process.env['FLEXMESH_SEED'] ?? 1)
/** The child makes at most 200 proposals, and deriving the roster takes longer with each. */
const KILLS_PER_HOME = 25
const CHILD = fileURLToPath(new URL('kill.child.ts', import.meta.url))
const founders = [identityOf(1), identityOf(2), identityOf(3)]

afterEach(async () => {
  await closeLedgers()
  await cleanUp()
})

/** Run until a number of statements is reported, then a moment longer. @returns ids of the proposals that it has made or endorsed. */
async function runAndKill(child: ChildProcess, statements: number, turns: number): Promise<string[]> {
  const reported: string[] = []
  const enough = new Promise<void>((resolve) => {
    child.on('message', (id: string) => {
      if (reported.push(id) >= statements) resolve()
    })
  })
  const exited = once(child, 'exit')
  await Promise.race([enough, exited])
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
  child.kill('SIGKILL')
  await exited
  return reported
}

it(
  'loses nothing that was reported, and signs nothing twice, when a process is killed again and again',
  async () => {
    const random = mulberry32(SEED)
    const below = (max: number): number => Math.floor(random() * max)
    let dir = ''
    const c = consortium(founders, { threshold: 2 })
    const [first] = founders as [(typeof founders)[number]]
    let before: string[] = []
    for (let kill = 0; kill < KILLS; kill++) {
      if (kill % KILLS_PER_HOME === 0) {
        dir = await folder()
        before = []
      }
      const child = fork(CHILD, [dir], { execArgv: ['--import', 'tsx'] })
      const reported = await runAndKill(child, 1 + below(6), below(200))
      const { membership, statements } = await openLedger(c, first, dir, { now: NOW })
      const own: string[] = []
      const governance: string[] = []
      for await (const { digest, envelope } of statements.all()) {
        const { payloadType } = readEnvelope(envelope)
        expect([MEDIA_TYPES.proposal, MEDIA_TYPES.endorsement]).toContain(payloadType)
        governance.push(digest)
      }
      for await (const { digest } of statements.of(first.peerId)) own.push(digest)
      const at = `kill ${kill} of seed ${SEED}`
      const supported = membership.book
        .proposals()
        .filter(({ supporters }) => supporters.includes(first.peerId))
        .map(({ id }) => id)
      expect(supported, at).toEqual(expect.arrayContaining(reported))
      // The log of before goes on: no place holds another statement now.
      expect(own.slice(0, before.length), at).toEqual(before)
      expect(membership.book.governanceEnvelopes(new Set([first.peerId])), at).toHaveLength(own.length)
      // A statement of another member counts before it is logged, and comes again with the next sync.
      expect([0, 1], at).toContain(membership.book.governanceEnvelopes().length - governance.length)
      before = own
      await closeLedgers()
    }
    expect(before.length).toBeGreaterThan((KILLS - 1) % KILLS_PER_HOME)
  },
  120_000 + KILLS * 30_000,
)
