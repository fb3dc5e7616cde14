/**
 * Implements protocols/expert-package (v1.0.0), section "Receipt": a member states what it did about withdrawals: which
 * files it deleted, which compositions changed, and what it still has and why. A receipt is evidence of what was stated,
 * not of deletion. Does not know the log that it answers.
 */

import { type ChainLink, readChainLink, readDigestSet } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'

/** The most that a node did with a package: answered with it, stored its file, or neither. */
const HELD = ['used', 'stored', 'never'] as const
/** Why a file stays: another package that stands has it, it belongs to the public model, or the disk refused. */
const KEPT_REASONS = ['other-package', 'public-model', 'not-deleted'] as const

export interface KeptFile {
  readonly sha256: Digest
  readonly reason: (typeof KEPT_REASONS)[number]
}

/** What a node did about one withdrawn package. */
export interface PackageReceipt {
  readonly manifest: Digest
  readonly held: (typeof HELD)[number]
  /** Digests of the files that were deleted, ascending. */
  readonly dropped: readonly Digest[]
  /** Files that this node still has, ascending by digest. */
  readonly kept: readonly KeptFile[]
}

/** A composition that answered with a withdrawn package. */
export interface ChangedComposition {
  readonly before: Digest
  /** The composition that replaced it; undefined if its answers were stopped without a replacement. */
  readonly after?: Digest
}

/** A model that the node exported with a withdrawn package in it. */
export interface ExportReceipt {
  /** Digest of the exported composition. */
  readonly composition: Digest
  /** Whether a notice lies beside the exported files; false if they are no longer where they were written. */
  readonly marked: boolean
}

/** What a node did about one withdrawal. */
export interface WithdrawalAnswer {
  /** Digest of the statement that withdrew the packages. */
  readonly withdrawal: Digest
  /** When this node stopped using the packages, Unix seconds. */
  readonly carriedOutAt: number
  /** One for each package that the withdrawal names, ascending by manifest. */
  readonly packages: readonly PackageReceipt[]
  /** Ascending by `before`. */
  readonly compositions: readonly ChangedComposition[]
  /** Ascending by composition. */
  readonly exports: readonly ExportReceipt[]
}

export interface Receipt extends ChainLink {
  readonly consortium: Digest
  /** Ascending by withdrawal, at least one. */
  readonly answers: readonly WithdrawalAnswer[]
  /** Unix seconds. */
  readonly issuedAt: number
}

/** Sorts every list. @throws FormatError for a value that `decodeReceipt` would refuse. */
export function encodeReceipt(receipt: Receipt): Uint8Array {
  const answers = sortedBy(receipt.answers, ({ withdrawal }) => withdrawal).map((answer) => ({
    ...answer,
    packages: sortedBy(answer.packages, ({ manifest }) => manifest).map((one) => ({
      ...one,
      dropped: [...one.dropped].sort(),
      kept: sortedBy(one.kept, ({ sha256 }) => sha256),
    })),
    compositions: sortedBy(answer.compositions, ({ before }) => before),
    exports: sortedBy(answer.exports, ({ composition }) => composition),
  }))
  const bytes = encodeCanonical({ ...receipt, answers })
  decodeReceipt(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`. */
export function decodeReceipt(bytes: Uint8Array): Receipt {
  const fields = new Fields(decodeCanonical(bytes), 'receipt')
  const receipt: Receipt = {
    ...readChainLink(fields, 'receipt'),
    consortium: fields.digest('consortium'),
    answers: readSorted(fields, 'answers', readAnswer, ({ withdrawal }) => withdrawal, 1),
    issuedAt: fields.uint('issuedAt'),
  }
  fields.end()
  const early = receipt.answers.find(({ carriedOutAt }) => carriedOutAt > receipt.issuedAt)
  if (early !== undefined) {
    throw new FormatError('bad-field', `receipt: signed before ${early.withdrawal} was carried out`)
  }
  return receipt
}

function readAnswer(value: unknown, title: string): WithdrawalAnswer {
  const fields = new Fields(value, title)
  const answer: WithdrawalAnswer = {
    withdrawal: fields.digest('withdrawal'),
    carriedOutAt: fields.uint('carriedOutAt'),
    packages: readSorted(fields, 'packages', readPackage, ({ manifest }) => manifest, 1),
    compositions: readSorted(fields, 'compositions', readComposition, ({ before }) => before),
    exports: readSorted(fields, 'exports', readExport, ({ composition }) => composition),
  }
  fields.end()
  if (answer.compositions.length > 0 && answer.packages.every(({ held }) => held !== 'used')) {
    throw new FormatError('bad-field', `${title}.compositions: none of the packages was used`)
  }
  return answer
}

function readPackage(value: unknown, title: string): PackageReceipt {
  const fields = new Fields(value, title)
  const receipt: PackageReceipt = {
    manifest: fields.digest('manifest'),
    held: fields.literal('held', ...HELD),
    dropped: readDigestSet(fields, 'dropped', title),
    kept: readSorted(fields, 'kept', readKept, ({ sha256 }) => sha256),
  }
  fields.end()
  if (receipt.held === 'never' && receipt.dropped.length > 0) {
    throw new FormatError('bad-field', `${title}.dropped: deleted a file of a package that was never held`)
  }
  if (receipt.kept.some(({ sha256 }) => receipt.dropped.includes(sha256))) {
    throw new FormatError('bad-field', `${title}.kept: the same file was deleted`)
  }
  return receipt
}

function readKept(value: unknown, title: string): KeptFile {
  const fields = new Fields(value, title)
  const kept: KeptFile = {
    sha256: fields.digest('sha256'),
    reason: fields.literal('reason', ...KEPT_REASONS),
  }
  fields.end()
  return kept
}

function readComposition(value: unknown, title: string): ChangedComposition {
  const fields = new Fields(value, title)
  const before = fields.digest('before')
  const after = fields.has('after') ? fields.digest('after') : undefined
  fields.end()
  if (before === after) throw new FormatError('bad-field', `${title}.after: the composition did not change`)
  return { before, ...(after === undefined ? {} : { after }) }
}

function readExport(value: unknown, title: string): ExportReceipt {
  const fields = new Fields(value, title)
  const receipt = { composition: fields.digest('composition'), marked: fields.bool('marked') }
  fields.end()
  return receipt
}

/** A list in strictly ascending order of a digest, so that it has only one encoding. */
function readSorted<T>(
  fields: Fields,
  name: string,
  read: (item: unknown, title: string) => T,
  digestOf: (item: T) => Digest,
  min = 0,
): T[] {
  const items = fields.list(name, limit('digestsPerStatement'), read, min)
  if (items.some((item, i) => i > 0 && digestOf(item) <= digestOf(items[i - 1] as T))) {
    throw new FormatError('bad-field', `receipt.${name}: expected ascending digests, none twice`)
  }
  return items
}

function sortedBy<T>(items: readonly T[], digestOf: (item: T) => Digest): T[] {
  return [...items].sort((a, b) => (digestOf(a) < digestOf(b) ? -1 : 1))
}
