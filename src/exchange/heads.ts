/**
 * Announcements of signed heads on the topic of a consortium. Implements protocols/package-exchange, Heads. Does
 * not open a head.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'
import type { Judgement } from '../network/network.ts'
import type { Log } from '../telemetry/log.ts'

export interface HeadHandlers {
  /** Decide about an announced head before it is relayed; `accept` also starts a sync with its sender. */
  judgeHead(envelope: Uint8Array): Judgement
  /**
   * Whether some announced head names a statement that this node does not hold.
   * @param peer only heads of this member
   */
  isBehind(peer?: PeerIdString): boolean
}

/** Topic on which the members of one consortium announce their heads. */
export function headsTopic(consortium: Digest): string {
  return `/flexmesh/${consortium.replace('sha256:', '')}/heads/1.0.0`
}

/** Rejects announcements that are too large or cannot be opened. Never throws. */
export function judgeAnnouncement(handlers: HeadHandlers, announcement: Uint8Array, log: Log): Judgement {
  if (announcement.length > limit('announcementBytes')) return 'reject'
  try {
    return handlers.judgeHead(announcement)
  } catch (error) {
    log.debug('an announced head is rejected', error)
    return 'reject'
  }
}
