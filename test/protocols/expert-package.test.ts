import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { judgeManifest } from '../../src/acceptance/accept.ts'
import { checkFinite, checkStatistics } from '../../src/acceptance/checks.ts'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import type { Member } from '../../src/consortium/member.ts'
import { fromHex, parseDigest, utf8 } from '../../src/lib/bytes.ts'
import * as errors from '../../src/lib/errors.ts'
import { Fields } from '../../src/lib/fields.ts'
import { checkChunkHashes, readFileRef } from '../../src/lib/file-ref.ts'
import { LIMITS } from '../../src/lib/limits.ts'
import { STATISTICS_TOKENS } from '../../src/lib/tensor-names.ts'
import { decodeManifest, type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { unpackExpert } from '../../src/packaging/package.ts'
import { decodeHead } from '../../src/statements/head.ts'
import { placeInChain } from '../../src/statements/statement.ts'
import { decodeWithdrawal } from '../../src/statements/withdrawal.ts'
import { codeOf, tinyManifest } from '../support/packages.ts'
import { makeVectors } from '../vectors/expert-package.ts'

const folder = new URL('../../protocols/expert-package/', import.meta.url)
const files = readdirSync(new URL('vectors/', folder)).sort()
const readme = readFileSync(new URL('README.md', folder), 'utf8')

interface VectorFile {
  name: string
  spec: string
  expect: string
  input: Record<string, unknown>
  comment: string
}
const vectors = files.map((file) => {
  const vector: VectorFile = JSON.parse(readFileSync(new URL(`vectors/${file}`, folder), 'utf8'))
  return { file, ...vector }
})

/** Run the real decoder that a vector names. */
function decode(input: Record<string, unknown>): unknown {
  const fields = new Fields(input, 'input')
  const decoder = fields.text('decoder', 40)
  const text = () => utf8(String(input['text']))
  const hex = () => fromHex(String(input['hex']))
  switch (decoder) {
    case 'safetensors':
      return readSafetensors(hex())
    case 'package': {
      const { expert } = input as { expert: Manifest['expert'] }
      return unpackExpert(hex(), { expert })
    }
    case 'shares': {
      const data = toFloat32({ dtype: 'F32', data: hex() })
      const tokens = { name: STATISTICS_TOKENS, dtype: 'F32' as const, shape: [data.length], data }
      const tensors = new Map([[tokens.name, tokens]])
      checkFinite(tensors)
      return checkStatistics(tensors)
    }
    case 'judge-manifest':
      return judge(text(), fields.uint('vocabulary'))
    case 'manifest':
      return decodeManifest(text())
    case 'open-manifest':
      return openManifest(text())
    case 'head':
      return decodeHead(text())
    case 'withdrawal':
      return decodeWithdrawal(text())
    case 'chain': {
      const tip = fields.object('tip')
      const statement = fields.object('statement')
      return placeInChain(
        { seq: tip.uint('seq'), digest: tip.digest('digest') },
        { seq: statement.uint('seq'), prev: statement.digest('prev') },
        parseDigest(statement.text('id', 71)),
      )
    }
    case 'chunk-hashes':
      return checkChunkHashes(readFileRef(fields.object('ref')), hex())
    default:
      throw new Error(`no decoder for ${decoder}`)
  }
}

/** Judged by a consortium of the publisher alone, whose public model is the manifest's. */
function judge(envelope: Uint8Array, vocabulary: number): void {
  const { publisher, consortium, publicModel, issuedAt, expiresAt, expert } = openManifest(envelope).manifest
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
  const roster = { consortium, version: 1, prev: consortium, members: [member], threshold: 1 }
  const { verdict } = judgeManifest(envelope, {
    consortium,
    roster: { ...roster, issuedAt, expiresAt },
    publicModel: { ...publicModel, shape, params: new Map() },
    policy: DEFAULT_POLICY,
    withdrawn: new Set(),
    now: issuedAt,
  })
  if (verdict.outcome === 'refused') throw new errors.PolicyError(verdict.code as never, verdict.reason)
}

describe('the vectors of expert-package', () => {
  it.each(vectors)('$name: $expect', (vector) => {
    expect(codeOf(() => decode(vector.input))).toBe(vector.expect)
    expect(vector.file).toBe(`${vector.name}.json`)
  })

  it('are what the generator makes', () => {
    const made = Object.entries(makeVectors()).map(([file, vector]) => ({ file, ...vector }))
    made.sort((a, b) => (a.file < b.file ? -1 : 1))
    expect(vectors).toEqual(JSON.parse(JSON.stringify(made)))
  })

  it('hold at least three refusals for each acceptance, and every decoder has both', () => {
    const accepted = vectors.filter((vector) => vector.expect === 'accept')
    expect(vectors.length - accepted.length).toBeGreaterThanOrEqual(3 * accepted.length)
    const decoders = new Set(vectors.map(({ input }) => input['decoder']))
    expect(new Set(accepted.map(({ input }) => input['decoder']))).toEqual(decoders)
  })

  it('are all named in the specification', () => {
    for (const { name } of vectors) expect(readme).toContain(`| \`${name}\` |`)
  })
})

describe('the specification of expert-package', () => {
  const rows = (heading: string): string[][] => {
    const section = readme.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
    const table = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
    return table.slice(1).map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('`', '')),
    )
  }

  it('states the limits of the code', () => {
    const limits = rows('Limits')
    expect(limits.length).toBeGreaterThanOrEqual(8)
    const table = new Map<string, { value: number; unit: string }>(Object.entries(LIMITS))
    for (const [name, value, unit] of limits) {
      expect([name, value, unit]).toEqual([
        name,
        String(table.get(name as string)?.value),
        table.get(name as string)?.unit,
      ])
    }
  })

  it('states the error codes and families of the code, and all that its vectors expect', () => {
    const families = new Map<string, readonly string[]>([
      ['format', errors.FORMAT_CODES],
      ['verification', errors.VERIFICATION_CODES],
      ['policy', errors.POLICY_CODES],
    ])
    const table = rows('Errors')
    for (const [code, , family] of table) expect(families.get(family as string)).toContain(code)
    const codes = new Set(table.map(([code]) => code))
    for (const vector of vectors) if (vector.expect !== 'accept') expect(codes).toContain(vector.expect)
  })

  it('describes every member of a manifest, a head and a withdrawal', () => {
    const manifest = tinyManifest('x')
    const members = [
      ...Object.keys(manifest),
      ...Object.keys(manifest.publicModel),
      ...Object.keys(manifest.expert),
      ...Object.keys(manifest.files[0]),
      ...Object.keys(manifest.training),
      ...Object.keys(manifest.eval[0] ?? {}),
      'last',
      'manifests',
      'withdrawals',
      'reason',
    ]
    for (const member of members) expect(readme).toContain(`\`${member}\``)
  })
})
