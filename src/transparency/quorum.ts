/**
 * Which cosignatures make a checkpoint of a member's log final: those of more than half of the other members, so that
 * two quorums for one log share a member that is not its owner. Verifies cosignatures; does not know the roster.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { cosignedAt } from './cosignature.ts'
import type { NoteSignature, SignedNote, VerifierKey } from './note.ts'

/** @param members number of members of the roster, the owner of the log included */
export function cosignaturesNeeded(members: number): number {
  return members <= 1 ? 0 : Math.floor((members - 1) / 2) + 1
}

export interface Cosigner {
  readonly peerId: PeerIdString
  /** Time of its latest cosignature, Unix seconds. */
  readonly at: number
  readonly line: NoteSignature
}

/** The members that have validly cosigned a note, each once. Lines that do not verify count for nobody. */
export function cosignersOf(
  note: SignedNote,
  witnesses: readonly { readonly peerId: PeerIdString; readonly key: VerifierKey }[],
): Cosigner[] {
  return witnesses.flatMap(({ peerId, key }) => {
    const valid = note.signatures.flatMap((line) => {
      const at = validTime(note.text, line, key)
      return at === undefined ? [] : [{ peerId, at, line }]
    })
    return valid.sort((a, b) => b.at - a.at).slice(0, 1)
  })
}

/** Cosignatures that have been verified: a note keeps them when others are added to it. */
const VERIFIED = new WeakMap<
  NoteSignature,
  { readonly text: string; readonly key: VerifierKey; at: number }
>()

function validTime(text: string, line: NoteSignature, key: VerifierKey): number | undefined {
  const known = VERIFIED.get(line)
  if (known?.text === text && known.key === key) return known.at
  try {
    const at = cosignedAt({ text, signatures: [line] }, key)
    if (at !== undefined) VERIFIED.set(line, { text, key, at })
    return at
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}
