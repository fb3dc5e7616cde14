/**
 * What is known about every withdrawal, for people: who has answered and what, and when the others were seen last. Reads
 * only.
 */
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { Digest } from '../lib/bytes.ts'
import type { Parts } from '../pipeline/parts.ts'
import type { WithdrawalAnswer } from '../statements/receipt.ts'
import { answers, type KnownWithdrawal } from '../statements/withdrawal-ledger.ts'
import type { LastSeen } from './last-seen.ts'

/**
 * What a member did: `dropped` what it had, `never` had it, still `keeps` a file, or is still `waiting` for the
 * withdrawal, as far as this node knows.
 */
type AnswerState = 'dropped' | 'never' | 'keeps' | 'waiting'

export interface MemberAnswer {
  readonly institution: string
  readonly peerId: string
  readonly isSelf: boolean
  readonly state: AnswerState
  readonly isConnected: boolean
  /** When it was last connected to this node, Unix seconds; undefined if it never was. */
  readonly lastSeenAt?: number
  /** When it signed its receipt, Unix seconds. */
  readonly answeredAt?: number
  readonly answer?: WithdrawalAnswer
}

export interface WithdrawalReport {
  /** Digest of the statement that withdrew the packages. */
  readonly id: Digest
  readonly institution: string
  readonly isOwn: boolean
  readonly reason: KnownWithdrawal['reason']
  /** Unix seconds. */
  readonly issuedAt: number
  readonly packages: readonly { readonly id: Digest; readonly expert: string }[]
  /** Every member but the owner, who answers only what a quorum has withdrawn, by name; those that left only if they have answered. */
  readonly members: readonly MemberAnswer[]
}

/** All withdrawals that members answer, newest first. */
export async function withdrawalReports(
  parts: Parts,
  contact: { readonly connected: ReadonlySet<string>; readonly lastSeen: LastSeen },
): Promise<WithdrawalReport[]> {
  const reports: WithdrawalReport[] = []
  for (const withdrawal of parts.ledger.answerable().reverse()) {
    const packages = await packagesIn(parts, withdrawal)
    if (packages.length === 0) continue // Nobody answers it.
    const { id, publisher, reason, issuedAt } = withdrawal
    reports.push({
      id,
      institution: parts.membership.institutionOf(publisher),
      isOwn: publisher === parts.membership.seat,
      reason,
      issuedAt,
      packages,
      members: await answersOf(parts, withdrawal, contact),
    })
  }
  return reports
}

async function packagesIn(
  { statements }: Parts,
  { publisher, manifests }: KnownWithdrawal,
): Promise<{ id: Digest; expert: string }[]> {
  const packages: { id: Digest; expert: string }[] = []
  for (const id of manifests) {
    const envelope = await statements.envelope(id)
    const manifest = envelope === undefined ? undefined : readLoggedManifest(envelope)
    if (manifest?.publisher === publisher) packages.push({ id, expert: manifest.expert.name })
  }
  return packages
}

async function answersOf(
  { ledger, membership }: Parts,
  withdrawal: KnownWithdrawal,
  { connected, lastSeen }: Parameters<typeof withdrawalReports>[1],
): Promise<MemberAnswer[]> {
  const known = ledger.answersTo(withdrawal.id)
  const members: MemberAnswer[] = []
  for (const { institution, peerId, revoked } of membership.roster().members) {
    const latest = known.get(peerId)
    if (!answers(peerId, withdrawal) || (revoked !== undefined && latest === undefined)) continue
    const lastSeenAt = await lastSeen.of(peerId)
    members.push({
      institution,
      peerId,
      isSelf: peerId === membership.seat,
      state: latest === undefined ? 'waiting' : stateOf(latest.answer),
      isConnected: connected.has(peerId),
      ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
      ...(latest === undefined ? {} : { answeredAt: latest.issuedAt, answer: latest.answer }),
    })
  }
  return members.sort((a, b) => a.institution.localeCompare(b.institution))
}

function stateOf({ packages }: WithdrawalAnswer): AnswerState {
  const held = packages.filter((one) => one.held !== 'never')
  if (held.length === 0) return 'never'
  return held.some(({ kept }) => kept.length > 0) ? 'keeps' : 'dropped'
}
