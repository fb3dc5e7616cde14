/**
 * What a node does when it learns that a publisher has forked, and how such news spread. Knows nothing about files.
 */
import { openForkProof } from '../packaging/fork-proof.ts'
import type { ForkEnvelopes } from '../statements/fork.ts'
import type { Head } from '../statements/head.ts'
import { announce } from './own-log.ts'
import type { Parts } from './parts.ts'

/** Compare a head, whose signature was verified, with its publisher's log: the two may prove a fork. Never rejects. */
export async function ingestHead(parts: Parts, head: Head, envelope: Uint8Array): Promise<void> {
  try {
    if (await parts.statements.compareHead(head, envelope)) await actOnFork(parts, head.publisher)
  } catch (error) {
    parts.log.warn('a head was not compared with the log of its publisher', error)
  }
}

/**
 * Take in a proof that a publisher has forked.
 * @returns whether it is the first against this publisher.
 */
export async function ingestFork(parts: Parts, envelopes: ForkEnvelopes): Promise<boolean> {
  const { statements, membership } = parts
  try {
    const fork = openForkProof(envelopes, membership.consortium, statements.signers)
    if (!(await statements.keepFork(fork))) return false
    await actOnFork(parts, fork.publisher)
    return true
  } catch (error) {
    parts.log.warn('a proof that a member has forked could not be kept', error)
    return false
  }
}

/** Stop using the packages of a publisher that has forked, and tell people and the other members. */
export async function actOnFork(parts: Parts, publisher: string): Promise<void> {
  const { membership, accepted, composer } = parts
  const isOwn = publisher === membership.seat
  const institution = membership.institutionOf(publisher)
  parts.onEvent({ event: 'forked', institution, peerId: publisher, isOwn })
  if ((await accepted.dropUncovered()).length > 0) await composer.recompose()
  parts.news.isPending = true
}

/**
 * Announce our head if this node has learned a roster or a fork, so that the other members ask it. One announcement for
 * all that one pull has brought: heads must not be issued faster than time passes. Never rejects.
 */
export async function spreadNews(parts: Parts): Promise<void> {
  if (!parts.news.isPending) return
  parts.news.isPending = false
  try {
    await announce(parts)
  } catch (error) {
    parts.log.warn(
      'what this node has learned was not announced; members learn it with their next sync',
      error,
    )
  }
}
