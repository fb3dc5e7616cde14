/**
 * Answers withdrawals with signed receipts, which state what became of what this node held (withdrawal-notes.ts).
 * Implements protocols/expert-package, section "Receipt". Does not carry out withdrawals.
 */
import type { WithdrawnExpert } from '../composition/exports.ts'
import { seal } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'
import type { Manifest } from '../packaging/manifest.ts'
import {
  type ExportReceipt,
  encodeReceipt,
  type KeptFile,
  type PackageReceipt,
  type Receipt,
  type WithdrawalAnswer,
} from '../statements/receipt.ts'
import type { KnownWithdrawal } from '../statements/withdrawal-ledger.ts'
import { maySign, mustCatchUp } from './before-signing.ts'
import { actOnChained, logChained } from './chained-effects.ts'
import type { Parts } from './parts.ts'
import { heldNow, readNote, withdrawnPackages } from './withdrawal-notes.ts'

const DAY_SECONDS = 86_400
/** Bytes of answers up to which they share a receipt; one answer has at most about 12 KiB. */
const ANSWERS_BYTES = 40 * 1024

/**
 * Sign receipts for the withdrawals that this node has carried out and not answered. The receipts are announced with the
 * next head. What cannot be answered now is tried again with the next pull, upkeep or start. Never rejects.
 */
export async function answerWithdrawals(parts: Parts): Promise<void> {
  try {
    if (mustCatchUp(parts) || !maySign(parts, 'packages') || parts.statements.isForked(parts.membership.seat))
      return
    await parts.signing.run(async () => {
      const due = [...(await dueAnswers(parts)), ...(await laterAnswers(parts))]
      for (let from = 0; from < due.length; ) {
        const next = nextAnswers(due, from)
        await signReceipt(parts, next)
        from += next.length
      }
    })
  } catch (error) {
    parts.log.warn('a withdrawal could not be answered now and is answered later', error)
  }
}

/** As many answers from one on as a receipt holds; at least one. */
function nextAnswers(due: readonly WithdrawalAnswer[], from: number): WithdrawalAnswer[] {
  const answers: WithdrawalAnswer[] = []
  let bytes = 0
  for (const answer of due.slice(from, from + limit('digestsPerStatement'))) {
    bytes += JSON.stringify(answer).length
    if (answers.length > 0 && bytes > ANSWERS_BYTES) break
    answers.push(answer)
  }
  return answers
}

/** Answers to withdrawals that have none, of each publisher as many as its receipts of the last 24 hours allow. */
async function dueAnswers(parts: Parts): Promise<WithdrawalAnswer[]> {
  const { ledger, membership, now } = parts
  const { seat } = membership
  const open = new Map<string, KnownWithdrawal[]>()
  for (const withdrawal of ledger.unansweredBy(seat)) {
    open.set(withdrawal.publisher, [...(open.get(withdrawal.publisher) ?? []), withdrawal])
  }
  const answers: WithdrawalAnswer[] = []
  for (const [publisher, withdrawals] of open) {
    const most = limit('digestsPerStatement')
    const left = limit('receiptsPerDay') - ledger.receiptsSince(seat, publisher, now() - DAY_SECONDS)
    // Full receipts only, once the day's number is used up.
    const count = left > 0 ? left * most : withdrawals.length - (withdrawals.length % most)
    for (const withdrawal of withdrawals.slice(0, count)) {
      const answer = await answerTo(parts, withdrawal)
      if (answer !== undefined) answers.push(answer)
    }
  }
  return answers
}

/** New answers where a file that this node still had is deleted now. */
async function laterAnswers(parts: Parts): Promise<WithdrawalAnswer[]> {
  const { ledger, membership, blobs } = parts
  const answers: WithdrawalAnswer[] = []
  for (const { known } of ledger.unfinishedBy(membership.seat)) {
    const packages: PackageReceipt[] = []
    for (const one of known.answer.packages) {
      const gone: Digest[] = []
      for (const { sha256 } of one.kept) if (!(await blobs.has(sha256))) gone.push(sha256)
      const kept = one.kept.filter(({ sha256 }) => !gone.includes(sha256))
      packages.push(
        one.held === 'never' ? { ...one, kept } : { ...one, kept, dropped: [...one.dropped, ...gone] },
      )
    }
    const isChanged = packages.some(({ kept }, i) => kept.length !== known.answer.packages[i]?.kept.length)
    if (isChanged) answers.push({ ...known.answer, packages })
  }
  return answers
}

/**
 * @returns undefined for a withdrawal that is not carried out yet, or that names none of its publisher's packages, which
 * nobody answers.
 */
async function answerTo(parts: Parts, withdrawal: KnownWithdrawal): Promise<WithdrawalAnswer | undefined> {
  const { composer, accepted } = parts
  const withdrawn = await withdrawnPackages(parts, withdrawal)
  if (withdrawn.length === 0 || withdrawn.some(({ id }) => accepted.has(id) || composer.serves(id))) {
    return undefined
  }
  const note = await readNote(parts, withdrawal.id)
  const packages: PackageReceipt[] = []
  for (const { id, manifest } of withdrawn) {
    const held = note?.held[id] ?? (await heldNow(parts, id, manifest))
    packages.push({ manifest: id, held, ...(await filesOf(parts, held, manifest)) })
  }
  const at = note?.at ?? parts.now()
  const { digest: after } = composer.served.composition
  return {
    withdrawal: withdrawal.id,
    carriedOutAt: at,
    packages,
    compositions: [
      ...(note?.composition === undefined || note.composition === after
        ? []
        : [{ before: note.composition, after }]),
      ...(note?.upstream === undefined || note.upstream === note.composition
        ? []
        : [{ before: note.upstream }]),
    ],
    exports: await markExports(parts, withdrawn, at),
  }
}

async function filesOf(
  parts: Parts,
  held: PackageReceipt['held'],
  { files }: Manifest,
): Promise<Pick<PackageReceipt, 'dropped' | 'kept'>> {
  const dropped: Digest[] = []
  const kept: KeptFile[] = []
  const publicFiles = parts.membership.charter.publicModel.files
  for (const { sha256 } of files) {
    if (!(await parts.blobs.has(sha256))) {
      if (held !== 'never') dropped.push(sha256)
      continue
    }
    const isPublic = publicFiles.some((file) => file.sha256 === sha256)
    const isNeeded = parts.accepted.files.needs(sha256)
    kept.push({ sha256, reason: isPublic ? 'public-model' : isNeeded ? 'other-package' : 'not-deleted' })
  }
  return { dropped, kept }
}

/** Write notices beside the exports with these packages. Two exports of one composition make one entry. */
async function markExports(
  parts: Parts,
  withdrawn: readonly { readonly id: Digest; readonly manifest: Manifest }[],
  at: number,
): Promise<ExportReceipt[]> {
  const experts: WithdrawnExpert[] = withdrawn.map(({ id, manifest }) => ({
    id,
    name: manifest.expert.name,
    institution: parts.membership.institutionOf(manifest.publisher),
    at,
  }))
  const marked = new Map<Digest, boolean>()
  for (const one of await parts.exports.mark(experts)) {
    marked.set(one.composition, one.marked && (marked.get(one.composition) ?? true))
  }
  return [...marked]
    .map(([composition, isMarked]) => ({ composition, marked: isMarked }))
    .slice(0, limit('digestsPerStatement'))
}

async function signReceipt(parts: Parts, answers: readonly WithdrawalAnswer[]): Promise<void> {
  const receipt: Receipt = {
    ...(await parts.statements.next()),
    consortium: parts.membership.consortium,
    answers,
    issuedAt: Math.max(parts.now(), ...answers.map(({ carriedOutAt }) => carriedOutAt)),
  }
  const payload = encodeReceipt(receipt)
  const envelope = seal(MEDIA_TYPES.receipt, payload, [parts.identity])
  const statement = { kind: 'receipt', value: receipt, id: digestOf(payload), envelope } as const
  await parts.mark.replace() // Before the log holds the receipt.
  await logChained(parts, statement, true)
  await actOnChained(parts, statement)
  parts.news.isPending = true
  for (const { withdrawal } of answers) await parts.catalogue.delete('withdrawing', withdrawal)
}
