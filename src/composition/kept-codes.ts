/** Keeps the codes of one file of weights in the store, for the loader of serving. */
import type { KeptCodes } from '../inference/weight-loader.ts'
import type { Digest } from '../lib/bytes.ts'
import type { CodeFiles } from '../store/code-files.ts'

/** @param onFailure told when codes cannot be kept or read; serving goes on without them */
export function keptCodes(codes: CodeFiles, owner: Digest, onFailure: (error: unknown) => void): KeptCodes {
  return {
    open: (coding, sections) => codes.open(owner, coding, sections),
    create: (coding, sections) => codes.create(owner, coding, sections),
    discard: (coding) => codes.discard(owner, coding),
    onFailure,
  }
}
