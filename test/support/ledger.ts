/** The membership and the statement log of one member, on disk, without a node, and the decisions that it can take. */
import type { ProposedChange } from '../../src/consortium/change.ts'
import type { Answer } from '../../src/consortium/endorsement.ts'
import type { ProposalState } from '../../src/consortium/governance.ts'
import type { RevocationReason } from '../../src/consortium/member.ts'
import { Membership } from '../../src/consortium/membership.ts'
import type { MembershipEvent } from '../../src/consortium/membership-events.ts'
import type { Identity } from '../../src/identity/keys.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { Serial } from '../../src/lib/serial.ts'
import { type Approval, approve } from '../../src/node/approval.ts'
import { answer, leave, propose } from '../../src/pipeline/own-decisions.ts'
import type { Parts } from '../../src/pipeline/parts.ts'
import { ingest } from '../../src/pipeline.ts'
import { StatementLog } from '../../src/statements/statement-log.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { HomeMark } from '../../src/store/home-mark.ts'
import { SILENT } from '../../src/telemetry/log.ts'
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
  /** See `approve` of node/approval.ts. @returns names of those approved, and why the others were not. */
  approve(who?: string): Promise<Approval>
  /** Propose to revoke a member. */
  revoke(who: string, reason: RevocationReason, validThroughSeq: number): Promise<ProposalState>
  propose(change: ProposedChange): Promise<ProposalState>
  answer(proposal: string, given: Answer): Promise<ProposalState>
  leave(): Promise<Digest>
  /** Receive a statement of another member, as from the network. */
  receive(envelope: Uint8Array): Promise<boolean>
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

/** Open what a member holds on disk. The first opening begins with nothing. */
export async function openLedger(
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
  const parts = partsOf({
    identity,
    catalogue,
    membership,
    statements,
    now,
    mark: await HomeMark.open(dir, catalogue),
  })
  return {
    catalogue,
    membership,
    statements,
    events,
    clock,
    approve: (who) => approve(parts, who),
    revoke: async (who, reason, validThroughSeq) => {
      const seat = membership.findByName(who)?.peerId ?? who
      return propose(parts, { kind: 'revoke', seat, reason, validThroughSeq })
    },
    propose: (change) => propose(parts, change),
    answer: (proposal, given) => answer(parts, proposal, given),
    leave: () => leave(parts),
    receive: (envelope) => ingest(parts, envelope),
    reopen: async () => {
      open.delete(catalogue)
      await catalogue.close()
      return openLedger(consortium, identity, dir, clock)
    },
  }
}

/** The parts of a node that governance runs through; the others find nothing to do. */
function partsOf(
  real: Pick<Parts, 'identity' | 'membership' | 'statements' | 'mark' | 'now'> & { catalogue: Catalogue },
): Parts {
  const nothing = {
    accepted: { dropUncovered: async () => [] },
    composer: { recompose: async () => undefined },
    verdicts: { list: async () => [], putEnvelope: async () => undefined },
    claims: { isOpen: () => false },
    signing: new Serial(),
    news: { isPending: false },
    onEvent: () => undefined,
    log: SILENT,
  }
  return { ...nothing, ...real } as Partial<Record<keyof Parts, unknown>> as Parts
}

/** Close every ledger of the test. */
export async function closeLedgers(): Promise<void> {
  const closing = [...open].map((catalogue) => catalogue.close())
  open.clear()
  await Promise.all(closing)
}
