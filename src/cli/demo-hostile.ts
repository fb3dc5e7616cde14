/**
 * What the demo shows being refused: a package that was changed after its owner signed it. It is written into the log
 * of a node that is stopped, so that no running node has a command for it.
 */
import { readEnvelope } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { digestOf, toBase64 } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { InputError } from '../lib/errors.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import { Catalogue } from '../store/catalogue.ts'

/** Latest statements of a publisher among which its latest manifest is sought. */
const LATEST = 1024

/**
 * Add to the log of a stopped node its latest manifest with another licence, under the signature of the old one.
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
      throw new InputError('not-found', `${home}: nothing was published yet`)
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

/** An envelope with the signatures of `signed` over another manifest. */
function tampered(signed: Uint8Array, manifest: Manifest): Uint8Array {
  const { payloadType, signatures } = readEnvelope(signed)
  return encodeCanonical({
    payload: toBase64(encodeCanonical(manifest)),
    payloadType,
    signatures: signatures.map(({ key, sig }) => ({ key, sig: toBase64(sig) })),
  })
}
