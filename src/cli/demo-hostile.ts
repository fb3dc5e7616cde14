/**
 * Creates the package that the demo shows being refused: it was changed after its owner signed it. The package is
 * written into the log of a stopped node, so that no running node needs a command for this.
 */
import { readEnvelope } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { digestOf, toBase64 } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { InputError } from '../lib/errors.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import { Catalogue } from '../store/catalogue.ts'

/** Number of a publisher's latest statements that are searched for its latest manifest. */
const LATEST = 1024

/**
 * Append the latest manifest of a stopped node to its log again, with another licence and the old signature.
 * @throws InputError `home-in-use` while the node runs, `not-found` before it has published anything.
 */
export async function plantTampered(home: string, publisher: string): Promise<void> {
  const catalogue = await Catalogue.open(home)
  try {
    const tip = await catalogue.tip(publisher)
    const log = await catalogue.log(publisher, Math.max(1, (tip?.seq ?? 0) - LATEST), LATEST + 1)
    const latest = log.findLast(
      ({ envelope }) => readEnvelope(envelope).payloadType === MEDIA_TYPES.manifest,
    )?.envelope
    if (tip === undefined || latest === undefined) {
      throw new InputError('not-found', `${home}: nothing has been published yet`)
    }
    const seq = tip.seq + 1
    const { manifest } = openManifest(latest)
    const envelope = tampered(latest, { ...manifest, seq, prev: tip.digest, license: 'CC0-1.0' })
    const digest = digestOf(readEnvelope(envelope).payload)
    await catalogue.append({ publisher, seq, digest, envelope })
  } finally {
    await catalogue.close()
  }
}

/** An envelope with the signatures of `signed` but another manifest. */
function tampered(signed: Uint8Array, manifest: Manifest): Uint8Array {
  const { payloadType, signatures } = readEnvelope(signed)
  return encodeCanonical({
    payload: toBase64(encodeCanonical(manifest)),
    payloadType,
    signatures: signatures.map(({ key, sig }) => ({ key, sig: toBase64(sig) })),
  })
}
