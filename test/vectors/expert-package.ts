/** Test vectors of protocols/expert-package: their order, and the decoder that each of them names. */
import { judgeManifest } from '../../src/acceptance/accept.ts'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { checkShares } from '../../src/acceptance/weight-checks.ts'
import { checkFiniteValues } from '../../src/acceptance/weight-scan.ts'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import type { Member } from '../../src/consortium/member.ts'
import { MAJORITY_RULES } from '../../src/consortium/rules.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { openStatement, placeInChain } from '../../src/identity/statement.ts'
import { fromHex, parseDigest, utf8 } from '../../src/lib/bytes.ts'
import { PolicyError } from '../../src/lib/errors.ts'
import { Fields } from '../../src/lib/fields.ts'
import { checkChunkHashes, readFileRef } from '../../src/lib/file-ref.ts'
import { STATISTICS_TOKENS } from '../../src/lib/tensor-names.ts'
import { openForkProof } from '../../src/packaging/fork-proof.ts'
import { decodeManifest, type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { decodeHead } from '../../src/statements/head.ts'
import { decodeReceipt } from '../../src/statements/receipt.ts'
import { decodeWithdrawal } from '../../src/statements/withdrawal.ts'
import { unpackExpert } from '../support/package-bytes.ts'
import { auditVectors } from './expert-package/audit.ts'
import { chainVectors } from './expert-package/chain.ts'
import { chunkVectors } from './expert-package/chunks.ts'
import { CONSORTIUM, forkVectors } from './expert-package/fork.ts'
import { headVectors } from './expert-package/head.ts'
import { manifestVectors } from './expert-package/manifest.ts'
import { judgedPrivacyVectors, privacyVectors } from './expert-package/privacy.ts'
import { receiptVectors } from './expert-package/receipt.ts'
import {
  declaredStatisticsVectors,
  sharesVectors,
  statisticsVectors,
} from './expert-package/router-statistics.ts'
import { safetensorsVectors } from './expert-package/safetensors.ts'
import { envelopeVectors } from './expert-package/statements.ts'
import { lowRankVectors, tensorVectors } from './expert-package/tensors.ts'
import { withdrawalVectors } from './expert-package/withdrawal.ts'
import { byFileName, type Place, type Vector, type VectorSuite } from './vector.ts'

function makeVectors(): Record<string, Vector> {
  return byFileName([
    ...safetensorsVectors(),
    ...tensorVectors(),
    ...statisticsVectors(),
    ...lowRankVectors(),
    ...sharesVectors(),
    ...manifestVectors(),
    ...privacyVectors(),
    ...auditVectors(),
    ...envelopeVectors(),
    ...declaredStatisticsVectors(),
    ...judgedPrivacyVectors(),
    ...headVectors(),
    ...withdrawalVectors(),
    ...receiptVectors(),
    ...chainVectors(),
    ...forkVectors(),
    ...chunkVectors(),
  ])
}

function runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown {
  const fields = new Fields(input, 'input')
  const decoder = fields.text('decoder', 40)
  const text = () => place(utf8(String(input['text'])))
  const hex = () => place(fromHex(String(input['hex'])))
  switch (decoder) {
    case 'safetensors':
      return readSafetensors(hex())
    case 'package': {
      const { expert } = input as { expert: Manifest['expert'] }
      return unpackExpert(hex(), { expert })
    }
    case 'shares': {
      const data = toFloat32({ dtype: 'F32', data: hex() })
      checkFiniteValues(STATISTICS_TOKENS, data)
      return checkShares(data)
    }
    case 'judge-manifest':
      return judge(text(), fields.uint('vocabulary'), input['maxEpsilonMicro'] as number | undefined)
    case 'manifest':
      return decodeManifest(text())
    case 'open-manifest':
      return openManifest(text())
    case 'head':
      return decodeHead(text())
    case 'withdrawal':
      return decodeWithdrawal(text())
    case 'receipt':
      return decodeReceipt(text())
    case 'open-receipt':
      return openStatement(text(), MEDIA_TYPES.receipt, decodeReceipt)
    case 'chain': {
      const tip = fields.object('tip')
      const statement = fields.object('statement')
      return placeInChain(
        { seq: tip.uint('seq'), digest: tip.digest('digest') },
        { seq: statement.uint('seq'), prev: statement.digest('prev') },
        parseDigest(statement.text('id', 71)),
      )
    }
    case 'fork': {
      const [first, second] = fields.list('envelopes', 2, (item) => place(utf8(String(item))), 2)
      return openForkProof([first as Uint8Array, second as Uint8Array], CONSORTIUM)
    }
    case 'chunk-hashes':
      return checkChunkHashes(readFileRef(fields.object('ref')), hex())
    default:
      throw new Error(`no decoder for ${decoder}`)
  }
}

/**
 * Judges a manifest in a consortium whose only member is its publisher and whose public model is the manifest's.
 * @param maxEpsilonMicro the receiver's bound; undefined: it asks for no guarantee.
 */
function judge(envelope: Uint8Array, vocabulary: number, maxEpsilonMicro: number | undefined): void {
  const opened = openManifest(envelope)
  const { publisher, consortium, publicModel, issuedAt, expiresAt, expert } = opened.manifest
  const shape = {
    vocab_size: vocabulary,
    hidden_size: expert.hidden_size,
    intermediate_size: expert.intermediate_size,
    num_hidden_layers: expert.layers,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    max_position_embeddings: 128,
    rope_theta: 10_000,
    rms_norm_eps_nano: 1000,
  }
  const member: Member = {
    institution: 'Alpha Court',
    peerId: publisher,
    role: 'founder',
    joinedAt: issuedAt,
  }
  const roster = { consortium, version: 1, prev: consortium, members: [member], rules: MAJORITY_RULES }
  const verdict = judgeManifest(opened, {
    consortium,
    roster: { ...roster, issuedAt, expiresAt },
    publicModel: { ...publicModel, files: new Set(), shape, weights: new Map() },
    policy: { ...DEFAULT_POLICY, ...(maxEpsilonMicro === undefined ? {} : { maxEpsilonMicro }) },
    isWithdrawn: () => false,
    withdrawnFiles: new Set(),
    counts: () => true,
    isForked: () => false,
    now: issuedAt,
  })
  if (verdict.outcome === 'refused') throw new PolicyError(verdict.code as never, verdict.reason)
}

export const expertPackage: VectorSuite = { makeVectors, runVector }
