/** Rules of the specifications that no vector can state, because they concern an order, a history or a clock. */
import { afterEach, describe, expect, it } from 'vitest'
import { encodeCharter, openCharter, publicModelDigest } from '../../src/consortium/charter.ts'
import { decodeInvite, encodeInvite } from '../../src/consortium/invite.ts'
import { Membership } from '../../src/consortium/membership.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { concatBytes, type Digest, digestOf, fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { limit } from '../../src/lib/limits.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { encodeManifest, openManifest } from '../../src/packaging/manifest.ts'
import { encodeHead } from '../../src/statements/head.ts'
import { NO_STATEMENT, openStatement } from '../../src/statements/statement.ts'
import { type LoggedStatement, StatementLog } from '../../src/statements/statement-log.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { newHome } from '../support/homes.ts'
import { network, now } from '../support/network.ts'
import { codeOf, codeOfAsync, tinyManifest } from '../support/packages.ts'
import { tinyModel } from '../support/tiny-model.ts'

const open: { close(): Promise<void> }[] = []

afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
  await cleanUp()
})

const publisher = createIdentity(new Uint8Array(32).fill(0x11))
const payload = encodeManifest(tinyManifest(publisher.peerId))

describe('the checks of a statement', () => {
  /** In the order of the specification; each code is that of the fault alone. */
  const FAULTS = [
    ['envelope size', 'too-large'],
    ['envelope schema', 'bad-field'],
    ['payload type', 'wrong-type'],
    ['signature', 'bad-signature'],
    ['payload size', 'too-large'],
    ['canonical form', 'not-canonical'],
    ['member', 'bad-field'],
  ] as const
  type Fault = (typeof FAULTS)[number][0]

  function statementWith(...faults: readonly Fault[]): Uint8Array {
    const has = (fault: Fault): boolean => faults.includes(fault)
    const { license, ...withoutLicense } = JSON.parse(fromUtf8(payload)) as Record<string, unknown>
    const spaces = has('payload size') ? limit('statementBytes') : has('canonical form') ? 1 : 0
    const body = encodeCanonical(has('member') ? withoutLicense : { ...withoutLicense, license })
    const type = has('payload type') ? MEDIA_TYPES.head : MEDIA_TYPES.manifest
    let text = fromUtf8(seal(type, concatBytes(utf8(' '.repeat(spaces)), body), [publisher]))
    if (has('signature')) text = text.replace(/"sig":"(.)/, (_, c) => `"sig":"${c === 'A' ? 'B' : 'A'}`)
    if (has('envelope schema')) text = text.replace(/}$/, ',"zone":"x"}')
    return utf8(has('envelope size') ? text.padEnd(limit('envelopeBytes') + 1) : text)
  }

  const pairs = FAULTS.flatMap(([first, code], index) =>
    FAULTS.slice(index).map(([second]) => [first, second, code] as const),
  )

  it.each(pairs)('find the %s before the %s', (first, second, code) => {
    expect(codeOf(() => openManifest(statementWith(first, second)))).toBe(code)
  })

  it('find nothing in a statement without faults', () => {
    expect(codeOf(() => openManifest(statementWith()))).toBe('accept')
  })

  it('parse the bytes whose signature was verified, and no others', () => {
    const decoded: Uint8Array[] = []
    const openEnvelope = (envelope: Uint8Array) =>
      openStatement(envelope, MEDIA_TYPES.manifest, (bytes) => {
        decoded.push(bytes)
        return { publisher: publisher.peerId }
      })
    openEnvelope(seal(MEDIA_TYPES.manifest, payload, [publisher]))
    expect(codeOf(() => openEnvelope(statementWith('signature')))).toBe('bad-signature')
    expect(decoded.map((bytes) => digestOf(bytes))).toEqual([digestOf(payload)])
  })
})

interface OpenLog {
  readonly log: StatementLog
  readonly catalogue: Catalogue
  readonly consortium: Digest
  /** The time of the log, which tests may change. Unix seconds. */
  readonly clock: { now: number }
}

/** The log of a consortium of one founder, on disk. */
async function openLog(): Promise<OpenLog> {
  const now = 1_800_000_000
  const clock = { now }
  const reference = {
    chunkSize: limit('chunkBytes'),
    sha256: digestOf(payload),
    chunksSha256: digestOf(payload),
  }
  const files = (['config', 'tokenizer', 'weights', 'replay'] as const).map((role) => ({
    role,
    name: role,
    size: 1,
    ...reference,
  }))
  const config = {
    vocab_size: 64,
    hidden_size: 4,
    intermediate_size: 6,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    max_position_embeddings: 32,
    rope_theta: 500_000,
    rms_norm_eps_nano: 1000,
  }
  const charter = encodeCharter({
    name: 'Example consortium',
    publicModel: {
      name: 'tiny',
      digest: publicModelDigest(files),
      tokenizerDigest: reference.sha256,
      config,
      files,
    },
    founders: [{ institution: 'Alpha Court', peerId: publisher.peerId, role: 'founder', joinedAt: now }],
    threshold: 1,
    issuedAt: now,
  })
  const charterEnvelope = seal(MEDIA_TYPES.charter, charter, [publisher])
  const catalogue = await Catalogue.open(await folder())
  open.push(catalogue)
  const init = { identity: publisher, catalogue, now: () => clock.now }
  const membership = await Membership.open({ ...init, charterEnvelope, onEvent: () => undefined })
  const { consortium } = openCharter(charterEnvelope)
  return { log: await StatementLog.open({ ...init, membership }), catalogue, consortium, clock }
}

/** A statement as the log takes it, with an envelope of its own. */
function logged(
  consortium: Digest,
  kind: LoggedStatement['kind'],
  seq: number,
  prev: Digest,
  text: string,
): LoggedStatement {
  const envelope = utf8(text)
  const link = { publisher: publisher.peerId, seq, prev }
  return { kind, link, consortium, id: digestOf(envelope), envelope }
}

describe('a fork', () => {
  it('is refused and kept as proof beside the statement in the log', async () => {
    const { log, catalogue, consortium } = await openLog()
    const first = logged(consortium, 'manifest', 1, NO_STATEMENT, 'first')
    const other = logged(consortium, 'manifest', 1, NO_STATEMENT, 'other')
    await log.append(first)
    expect(await codeOfAsync(() => log.append(other))).toBe('forked')
    expect(await catalogue.get('forks', publisher.peerId)).toEqual(other.envelope)
    expect(await log.envelope(first.id)).toEqual(first.envelope)
    const manifest = logged(consortium, 'manifest', 2, first.id, 'manifest')
    const withdrawal = logged(consortium, 'withdrawal', 2, first.id, 'withdrawal')
    expect(await codeOfAsync(() => log.append(manifest))).toBe('forked')
    expect(await log.append(withdrawal)).toBe(true)
  })
})

describe('the end of a roster', () => {
  it('ends the time for manifests, not that for withdrawals', async () => {
    const { log, consortium, clock } = await openLog()
    const first = logged(consortium, 'manifest', 1, NO_STATEMENT, 'first')
    const manifest = logged(consortium, 'manifest', 2, first.id, 'manifest')
    const withdrawal = logged(consortium, 'withdrawal', 2, first.id, 'withdrawal')
    clock.now += limit('rosterLifetime') + limit('clockSkew')
    await log.append(first)
    clock.now += 1
    expect(await codeOfAsync(() => log.append(manifest))).toBe('expired')
    expect(await log.append(withdrawal)).toBe(true)
  })
})

describe('a head', () => {
  it('is not taken with a lower number than one that was seen', async () => {
    const { log, consortium, clock } = await openLog()
    const { now } = clock
    const head = (seq: number, issuedAt: number): Uint8Array =>
      seal(
        MEDIA_TYPES.head,
        encodeHead({
          consortium,
          publisher: publisher.peerId,
          seq,
          last: digestOf(Uint8Array.of(seq)),
          manifests: [],
          withdrawals: [],
          issuedAt,
          expiresAt: issuedAt + 3600,
        }),
        [publisher],
      )
    expect(log.judgeHead(head(3, now))).toBe('accept')
    expect(log.judgeHead(head(2, now + 1))).toBe('ignore')
    expect(log.judgeHead(head(4, now + 1))).toBe('accept')
  })
})

describe('an invitation', () => {
  it('is refused if the charter that is fetched is that of another consortium', async () => {
    const consortium = await network(['Alpha Court'], await tinyModel())
    open.push(consortium)
    const invite = decodeInvite((await consortium.nodes[0]?.invite()) ?? '')
    const home = await newHome('Beta Hospital')
    const changed = encodeInvite({ ...invite, consortium: digestOf(utf8('other')) })
    const joining = joinConsortium({ home, now }, changed, AbortSignal.timeout(30_000), () => undefined)
    await expect(joining).rejects.toMatchObject({ code: 'wrong-consortium' })
  })
})
