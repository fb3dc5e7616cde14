/**
 * Reads manifests from the statement log. Does not verify signatures, because that was done before they were logged.
 */
import { readEnvelope } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { decodeManifest, type Manifest } from '../packaging/manifest.ts'
import type { Catalogue } from '../store/catalogue.ts'

/** @returns undefined if the log holds no manifest with this id. */
export async function loggedManifest(catalogue: Catalogue, id: Digest): Promise<Manifest | undefined> {
  const envelope = await catalogue.statement(id)
  return envelope === undefined ? undefined : readLoggedManifest(envelope)
}

/** @returns undefined for a statement of another kind, and for a payload that is not a valid manifest. */
export function readLoggedManifest(envelope: Uint8Array): Manifest | undefined {
  const { payloadType, payload } = readEnvelope(envelope)
  if (payloadType !== MEDIA_TYPES.manifest) return undefined
  try {
    return decodeManifest(payload)
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}
