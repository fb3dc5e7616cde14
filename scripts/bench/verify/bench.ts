/**
 * Measures on one core how many signed statements per second pass the strict checks, compared with their signatures
 * alone, and how fast a package of 1 GiB is checked chunk by chunk and as a whole, compared with SHA-256 alone over
 * the same bytes.
 */
import { createPublicKey, verify } from 'node:crypto'
import nacl from 'tweetnacl'
import { preAuthEncoding, readEnvelope, seal } from '../../../src/identity/envelope.ts'
import { createIdentity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { digestOf } from '../../../src/lib/bytes.ts'
import { encodeManifest, type Manifest, openManifest } from '../../../src/packaging/manifest.ts'
import { expertDataBytes } from '../../../src/packaging/tensor-names.ts'
import type { Bench } from '../benchmark.ts'
import { median, rounded, versionOf } from '../machine.ts'
import { verifyPackages } from './package.ts'

const PUBLISHERS = 8
const STATEMENTS = 2_000
const TWEETNACL_STATEMENTS = 200
const ROUNDS = 5
const ISSUED_AT = 1_760_000_000

export async function benchVerify(say: (line: string) => void): Promise<Bench> {
  const envelopes = signedManifests()
  const signed = envelopes.map(signedPart)
  const ours: number[] = []
  const openssl: number[] = []
  const tweetnacl: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(perSecond(envelopes, (envelope) => openManifest(envelope)))
    openssl.push(perSecond(signed, ({ message, signature }) => verify(null, message, OPENSSL_KEY, signature)))
    tweetnacl.push(perSecond(envelopes.slice(0, TWEETNACL_STATEMENTS), tweetnaclOnly))
    say(
      `statements, round ${round + 1} of ${ROUNDS}: ${ours.at(-1)} a second; signatures alone by OpenSSL ${openssl.at(-1)}, by tweetnacl ${tweetnacl.at(-1)}`,
    )
  }
  const { packageMiBs, sha256MiBs, ratio } = await verifyPackages(say)
  const statementsPerSecond = median(ours)
  return {
    json: {
      statementsPerSecond,
      opensslPerSecond: median(openssl),
      tweetnaclPerSecond: median(tweetnacl),
      ratios: {
        sha256: ratio,
        openssl: rounded(median(ours.map((rate, i) => rate / (openssl[i] as number)))),
      },
      mebibytesPerSecond: { package: packageMiBs, sha256: sha256MiBs },
      peers: {
        tweetnacl: versionOf('tweetnacl'),
        sha256: `node:crypto, OpenSSL ${process.versions.openssl}`,
      },
    },
    lines: [
      `signed manifests opened: ${statementsPerSecond} a second`,
      `the signature alone: ${median(openssl)} a second by OpenSSL, ${median(tweetnacl)} by tweetnacl`,
      `1 GiB verified: ${packageMiBs} MiB/s, ${ratio} times the speed of sha256 alone (${sha256MiBs} MiB/s)`,
    ],
  }
}

function signedManifests(): Uint8Array[] {
  const publishers = Array.from({ length: PUBLISHERS }, (_, i) =>
    createIdentity(new Uint8Array(32).fill(i + 1)),
  )
  return Array.from({ length: STATEMENTS }, (_, i) => {
    const identity = publishers[i % PUBLISHERS] as (typeof publishers)[number]
    const digest = digestOf(Uint8Array.of(i & 0xff, i >> 8))
    const expert = { layers: 2, hidden_size: 64, intermediate_size: 128, bias: true, statisticsTokens: 0 }
    const manifest: Manifest = {
      publisher: identity.peerId,
      seq: 1,
      prev: NO_STATEMENT,
      consortium: digest,
      rosterVersion: 1,
      issuedAt: ISSUED_AT,
      expiresAt: ISSUED_AT + 86_400,
      publicModel: { name: 'small', digest, tokenizerDigest: digest },
      expert: {
        name: 'biomedicine',
        dtype: 'F32',
        ...expert,
        statisticsDocuments: 0,
        statisticsEpsilonMilli: 0,
      },
      files: [
        {
          role: 'expert',
          size: expertDataBytes(expert, 4) + 4096,
          sha256: digest,
          chunkSize: 2 ** 20,
          chunksSha256: digest,
        },
      ],
      training: { documents: 10, tokens: 1000, steps: 100, replayShareMilli: 250 },
      eval: [{ set: 'own', metric: 'bits-per-byte', before: 2_653_000, after: 1_739_000 }],
      license: 'CC-BY-4.0',
      domain: 'biomedicine',
      ext: {},
    }
    return seal(MEDIA_TYPES.manifest, encodeManifest(manifest), [identity])
  })
}

function perSecond<T>(items: readonly T[], check: (item: T) => unknown): number {
  const started = performance.now()
  for (const item of items) check(item)
  return Math.round((items.length * 1000) / (performance.now() - started))
}

/** The input of OpenSSL. All are verified with one key: a signature that does not hold costs the same. */
function signedPart(envelope: Uint8Array): { message: Uint8Array; signature: Uint8Array } {
  const { payloadType, payload, signatures } = readEnvelope(envelope)
  return {
    message: preAuthEncoding(payloadType, payload),
    signature: signatures[0]?.sig ?? new Uint8Array(64),
  }
}

/** Verifies a signature in JavaScript. Leaves out the encoding: a signature that does not hold costs the same. */
function tweetnaclOnly(envelope: Uint8Array): void {
  const { payload, signatures } = readEnvelope(envelope)
  const [signature] = signatures
  nacl.sign.detached.verify(payload, signature?.sig ?? new Uint8Array(64), KEY)
}
const KEY = createIdentity(new Uint8Array(32).fill(1)).publicKey
const OPENSSL_KEY = createPublicKey({
  key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(KEY).toString('base64url') },
  format: 'jwk',
})
