/** The membership and the statement log of one member, on disk, without a node. */
import { Membership, type MembershipEvent } from '../../src/consortium/membership.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { StatementLog } from '../../src/statements/statement-log.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { NOW, type TestConsortium } from './consortium.ts'
import { folder } from './folders.ts'

export interface Ledger {
  readonly catalogue: Catalogue
  readonly membership: Membership
  readonly statements: StatementLog
  /** Events of the membership, in order. */
  readonly events: MembershipEvent[]
  /** What the clock shows, which a test may change. Unix seconds. */
  readonly clock: { now: number }
  /** Close, and open again from the same disk. */
  reopen(): Promise<Ledger>
}

const open = new Set<Catalogue>()

/** What a member, by default the first founder, holds of a consortium before it has received any roster. */
export async function ledgerOf(
  consortium: TestConsortium,
  identity: Identity = consortium.founders[0] as Identity,
): Promise<Ledger> {
  return openLedger(consortium, identity, await folder(), { now: NOW })
}

async function openLedger(
  consortium: TestConsortium,
  identity: Identity,
  dir: string,
  clock: { now: number },
): Promise<Ledger> {
  const catalogue = await Catalogue.open(dir)
  open.add(catalogue)
  const events: MembershipEvent[] = []
  const now = (): number => clock.now
  const membership = await Membership.open({
    identity,
    catalogue,
    charterEnvelope: consortium.charterEnvelope,
    now,
    onEvent: (event) => events.push(event),
  })
  const statements = await StatementLog.open({ identity, catalogue, membership, now })
  return {
    catalogue,
    membership,
    statements,
    events,
    clock,
    reopen: async () => {
      open.delete(catalogue)
      await catalogue.close()
      return openLedger(consortium, identity, dir, clock)
    },
  }
}

/** Close every ledger of the test. */
export async function closeLedgers(): Promise<void> {
  const closing = [...open].map((catalogue) => catalogue.close())
  open.clear()
  await Promise.all(closing)
}
