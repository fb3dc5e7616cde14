/** Proposes and endorses as fast as it can, reports the id of each proposal once that is done, and waits to be killed. */
import { consortium, identityOf, NOW } from '../support/consortium.ts'
import { openLedger } from '../support/ledger.ts'

const [dir = ''] = process.argv.slice(2)
const founders = [identityOf(1), identityOf(2), identityOf(3)]
const c = consortium(founders, { threshold: 2 })
const ledger = await openLedger(c, identityOf(1), dir, { now: NOW })
const other = c.publisher(identityOf(2))
for (let i = 0; i < 200; i++) {
  const { peerId } = identityOf(10 + i)
  const { id, envelope } = other.chained('proposal', {
    rosterVersion: 1,
    change: { kind: 'revoke', seat: identityOf(3).peerId, reason: 'other', validThroughSeq: 1000 - i },
    expiresAt: NOW + 60,
  })
  await ledger.receive(envelope)
  if (ledger.membership.book.proposal(id).state === 'open') {
    await ledger.answer(id, 'endorse')
    process.send?.(id)
  }
  const change = { kind: 'admit', institution: `Member ${i}`, peerId } as const
  if (ledger.membership.book.openProposalOf(change) === undefined)
    process.send?.((await ledger.propose(change)).id)
}
