/** What the exchange asks of the rest of the program, and what it reports to it. */
import type { PeerIdString } from '../identity/keys.ts'
import type { MemberAddresses } from '../network/address-table.ts'
import type { BlobHandlers } from './blob.ts'
import type { CheckpointHandlers } from './checkpoints.ts'
import type { HeadHandlers } from './heads.ts'
import type { JoinHandlers } from './join.ts'
import type { StatementsHandlers } from './statements.ts'

export interface ExchangeHandlers
  extends JoinHandlers,
    StatementsHandlers,
    BlobHandlers,
    HeadHandlers,
    CheckpointHandlers {
  isMember(peer: PeerIdString): boolean
  /** Whether peers that are not members may connect to join, because an invitation is open. */
  guestsOpen(): boolean
  /** Whether a peer was a member and was revoked: it may read the rosters, to learn so. */
  isRevoked(peer: PeerIdString): boolean
  /** A pull from a member has ended, whether it brought everything or not. */
  onPulled(peer: PeerIdString): void
  /**
   * A sync with a member has ended. `addresses` are those at which members can be reached after a restart.
   * @param isComplete whether this node holds everything that the member holds
   */
  onSynced(peer: PeerIdString, addresses: readonly MemberAddresses[], isComplete: boolean): void
}
