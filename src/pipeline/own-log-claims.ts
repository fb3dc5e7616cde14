/**
 * What members claim to hold of this node's own log beyond what this node holds: its home may have been set back. A
 * claim is not signed, so it only delays signing until the member was asked for the statements; a member that then
 * delivers none is not believed again. Knows nothing about statements.
 */
import type { PeerIdString } from '../identity/keys.ts'

export class OwnLogClaims {
  /** Sequence number that each member claims to hold, while it is asked for the statements. */
  readonly #open = new Map<PeerIdString, number>()
  readonly #refuted = new Set<PeerIdString>()

  /** A member claims to hold our statement `seq`; undefined if it claims nothing beyond what we hold. */
  claim(peer: PeerIdString, seq: number | undefined): void {
    if (seq !== undefined && !this.#refuted.has(peer)) this.#open.set(peer, seq)
  }

  /** The member has been asked for what it holds. @param ownSeq number of our latest statement now */
  asked(peer: PeerIdString, ownSeq: number): void {
    const claimed = this.#open.get(peer)
    this.#open.delete(peer)
    if (claimed !== undefined && claimed > ownSeq) this.#refuted.add(peer)
  }

  /** Whether a member that is being asked claims to hold later statements. @param ownSeq as for `asked` */
  isOpen(ownSeq: number): boolean {
    return [...this.#open.values()].some((seq) => seq > ownSeq)
  }
}
