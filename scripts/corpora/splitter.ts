/**
 * Splits documents into train, val and test, identically on every machine, since every order follows hashes of
 * identifiers. Knows nothing about files.
 *
 * 1. Documents of more than 16,000 characters are cut into pieces of at most 8,000 at line ends.
 * 2. All pieces of a document go to one split. In sources of fewer than 600 documents, where whole documents would be
 *    too coarse, only each two neighbouring pieces do.
 * 3. Groups of pieces, in the order of their hash, fill val, then test, each with 2 % of the text or 200 kB,
 *    whichever is more; the rest is train.
 * 4. Pieces of val and test are dropped if more than half of their runs of eight words occur in train.
 */
import { createHash } from 'node:crypto'
import { SeenShingles } from '../../src/data/shingles.ts'
import { MIN_CHARACTERS, type RawDocument } from './extract/document.ts'
import type { Split } from './load.ts'

export const SPLIT_RULE = {
  pieceCharacters: 8000,
  cutAboveCharacters: 16_000,
  fewDocuments: 600,
  heldOutShare: 0.02,
  heldOutBytes: 200_000,
  maxOverlap: 0.5,
} as const

export interface Piece {
  readonly text: string
  /** Pieces of one group are never in different splits. */
  readonly group: string
}

export interface SplitPieces extends Readonly<Record<Split, readonly Piece[]>> {
  /** Pieces of val and test dropped because they repeat train. */
  readonly dropped: { readonly val: number; readonly test: number }
}

/** Pieces of a source's documents in the order of the documents' hashes, at most `capBytes` in total. */
export function piecesOf(documents: readonly RawDocument[], capBytes: number): Piece[] {
  const few = documents.length < SPLIT_RULE.fewDocuments
  const pieces: Piece[] = []
  let total = 0
  for (const { id, text } of inHashOrder(documents, (document) => document.id)) {
    const parts = cutText(text)
    const size = parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0)
    if (total > 0 && total + size > capBytes) continue
    total += size
    for (const [i, part] of parts.entries()) {
      pieces.push({ text: part, group: few ? `${id}#${Math.floor(i / 2)}` : id })
    }
  }
  return pieces
}

/** Cuts a long text at line ends, and lines that are too long at spaces. */
export function cutText(text: string): string[] {
  const { pieceCharacters, cutAboveCharacters } = SPLIT_RULE
  if (text.length <= cutAboveCharacters) return [text]
  const pieces: string[] = []
  let current = ''
  for (const line of text.split(/(?<=\n)/)) {
    if (current.length + line.length > pieceCharacters && current.length > pieceCharacters / 2) {
      pieces.push(current)
      current = ''
    }
    current += line
    while (current.length > cutAboveCharacters) {
      const space = current.lastIndexOf(' ', pieceCharacters)
      const cut = space > pieceCharacters / 2 ? space : pieceCharacters
      pieces.push(current.slice(0, cut))
      current = current.slice(cut)
    }
  }
  pieces.push(current)
  return pieces.map((piece) => piece.trim()).filter((piece) => piece.length >= MIN_CHARACTERS)
}

export function splitPieces(pieces: readonly Piece[]): SplitPieces {
  const { heldOutShare, heldOutBytes, maxOverlap } = SPLIT_RULE
  const bytesOf = (some: readonly Piece[]): number =>
    some.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)
  const groups = new Map<string, Piece[]>()
  for (const piece of pieces) {
    const group = groups.get(piece.group)
    if (group === undefined) groups.set(piece.group, [piece])
    else group.push(piece)
  }
  const wanted = Math.max(heldOutShare * bytesOf(pieces), heldOutBytes)
  const split: Record<Split, Piece[]> = { train: [], val: [], test: [] }
  const filled = { val: 0, test: 0 }
  for (const [, group] of inHashOrder([...groups], ([name]) => `split-v1:${name}`)) {
    const into = filled.val < wanted ? 'val' : filled.test < wanted ? 'test' : 'train'
    split[into].push(...group)
    if (into !== 'train') filled[into] += bytesOf(group)
  }
  const seen = new SeenShingles()
  for (const { text } of split.train) seen.add(text)
  const kept = (held: readonly Piece[]): Piece[] =>
    held.filter(({ text }) => seen.overlap(text) <= maxOverlap)
  const val = kept(split.val)
  const test = kept(split.test)
  const dropped = { val: split.val.length - val.length, test: split.test.length - test.length }
  return { train: split.train, val, test, dropped }
}

function inHashOrder<T>(items: readonly T[], nameOf: (item: T) => string): T[] {
  return items
    .map((item) => [createHash('sha256').update(nameOf(item)).digest('hex'), item] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, item]) => item)
}
