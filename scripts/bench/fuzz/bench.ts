/**
 * `npm run bench -- fuzz [DECODER...] [--seconds S | --copies N]`: gives decoders of the protocols changed copies of the inputs
 * that they accept and counts what they do with them. Signed inputs must all be refused, every refusal must be one of
 * our errors, and memory must not grow. With `--signatures N` it compares decisions about signatures instead
 * (signatures.ts). The changes come from seeds and are not guided by coverage.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { collectGarbage } from '../../../src/lib/collect-garbage.ts'
import { FlexMeshError, InputError } from '../../../src/lib/errors.ts'
import { mutate } from '../../../test/support/packages.ts'
import { SUITES } from '../../../test/vectors/suites.ts'
import type { Vector, VectorSuite } from '../../../test/vectors/vector.ts'
import type { Bench } from '../benchmark.ts'
import { ROOT } from '../node-process.ts'
import { type FuzzOptions, readOptions } from './options.ts'
import { compareSignatures } from './signatures.ts'

/** Changed copies of one input before the next input of the decoder. */
const IN_A_ROW = 200
const MIB = 2 ** 20
/** Decoders of the expert package that verify a signature; elsewhere these are the inputs with an envelope. */
const SIGNED = ['open-manifest', 'open-receipt']

/** The inputs of one decoder. */
interface Target {
  readonly name: string
  readonly isSigned: boolean
  readonly suite: VectorSuite
  readonly inputs: Vector['input'][]
}

export interface Fuzzed {
  readonly decoder: string
  readonly isSigned: boolean
  readonly mutants: number
  readonly accepted: number
  /** Mutants at which something else than one of our errors was thrown, with the first of these errors. */
  readonly untyped: number
  readonly firstUntyped?: string
  /** Peak of the resident memory above that before the first copy, after a collection of garbage, MiB. */
  readonly growthMiB: number
  /** Memory of JavaScript and of array buffers that was still in use afterwards, MiB; negative if it is less than before. */
  readonly keptMiB: number
}

/** @param args see options.ts. @throws InputError `usage`. */
export async function benchFuzz(say: (line: string) => void, args: readonly string[]): Promise<Bench> {
  const options = readOptions(args)
  return options.signatures === undefined ? fuzzDecoders(say, options) : signatures(say, options.signatures)
}

async function signatures(say: (line: string) => void, count: number): Promise<Bench> {
  const agreement = await compareSignatures(count, say)
  const { accepted, disagreements, exceptions, otherBytes, comparedBytes, firstDisagreement } = agreement
  if (disagreements + exceptions + otherBytes > 0) process.exitCode = 1
  return {
    json: { agreement },
    lines: [
      `${count} signatures: ${disagreements} decided differently by tweetnacl with strict checks, ${exceptions} exceptions, ${accepted} accepted by both; ${otherBytes} of ${comparedBytes} honest ones have other bytes`,
      ...(firstDisagreement === undefined ? [] : [`first: ${firstDisagreement}`]),
    ],
  }
}

async function fuzzDecoders(say: (line: string) => void, { decoders, until }: FuzzOptions): Promise<Bench> {
  const targets = await readTargets()
  for (const beginning of decoders) {
    if (targets.some(({ name }) => name.startsWith(beginning))) continue
    const names = targets.map(({ name }) => `"${name}"`).join(', ')
    throw new InputError('usage', `fuzz: expected beginnings of ${names}; got "${beginning}"`)
  }
  const chosen = targets.filter(
    ({ name }) => decoders.length === 0 || decoders.some((beginning) => name.startsWith(beginning)),
  )
  const all: Fuzzed[] = []
  for (const target of chosen) {
    const fuzzed = fuzz(target, until)
    if (fuzzed === undefined) continue
    all.push(fuzzed)
    say(lineOf(fuzzed))
  }
  const sum = (of: (one: Fuzzed) => number): number => all.reduce((total, one) => total + of(one), 0)
  const mutants = sum((one) => one.mutants)
  const signed = sum((one) => (one.isSigned ? one.mutants : 0))
  const untyped = sum((one) => one.untyped)
  const forged = sum(({ isSigned, accepted }) => (isSigned ? accepted : 0))
  const growthMiB = Math.max(...all.map((one) => one.growthMiB))
  const keptMiB = Math.round(10 * sum((one) => one.keptMiB)) / 10
  if (untyped + forged > 0) process.exitCode = 1
  return {
    json: { decoders: all, mutants, signed, untyped, forged, growthMiB, keptMiB },
    lines: [
      ...all.map(lineOf),
      `${mutants} mutants, ${signed} of signed inputs, at ${all.length} decoders: ${untyped} errors that are not ours, ${forged} changed signed inputs accepted; at most +${growthMiB} MiB at one decoder, ${keptMiB} MiB kept by all`,
    ],
  }
}

/** The accepted vectors of all protocols, by decoder. */
async function readTargets(): Promise<Target[]> {
  const targets = new Map<string, Target>()
  for (const [protocol, suite] of Object.entries(SUITES)) {
    const folder = join(ROOT, 'protocols', protocol, 'vectors')
    for (const file of (await readdir(folder)).sort()) {
      const { expect, input } = JSON.parse(await readFile(join(folder, file), 'utf8')) as Vector
      if (expect !== 'accept') continue
      const decoder = String(input['decoder'] ?? input['message'] ?? protocol)
      const name = `${protocol} ${decoder}`
      const isSigned = 'envelope' in input || SIGNED.includes(decoder)
      const target = targets.get(name) ?? { name, isSigned, suite, inputs: [] }
      target.inputs.push(input)
      targets.set(name, target)
    }
  }
  return [...targets.values()]
}

/** @returns undefined if the decoder has no bytes that can be changed. */
function fuzz({ name, isSigned, suite, inputs }: Target, until: FuzzOptions['until']): Fuzzed | undefined {
  const valid = inputs.flatMap((input) => {
    let placed: Uint8Array | undefined
    suite.runVector(input, (bytes) => {
      placed = bytes
      return bytes
    })
    return placed === undefined || placed.length === 0 ? [] : [{ input, bytes: placed.slice() }]
  })
  if (valid.length === 0) return undefined
  const counted = { mutants: 0, accepted: 0, untyped: 0 }
  let firstUntyped: string | undefined
  const before = usedAfterCollection()
  let peak = before.rss
  const began = performance.now()
  const isEnough = (): boolean =>
    'copies' in until ? counted.mutants >= until.copies : performance.now() - began >= 1000 * until.seconds
  for (let seed = 1; !isEnough(); seed++) {
    for (const { input, bytes } of valid) {
      for (const mutant of mutate(bytes, IN_A_ROW, seed)) {
        if (Buffer.compare(mutant, bytes) === 0) continue
        counted.mutants++
        try {
          suite.runVector(input, () => mutant)
          counted.accepted++
        } catch (error) {
          if (error instanceof FlexMeshError) continue
          counted.untyped++
          firstUntyped ??= `${String(error)} at ${Buffer.from(mutant).toString('base64')}`
        }
      }
      peak = Math.max(peak, process.memoryUsage.rss())
    }
  }
  return {
    decoder: name,
    isSigned,
    ...counted,
    ...(firstUntyped === undefined ? {} : { firstUntyped }),
    growthMiB: Math.round((peak - before.rss) / MIB),
    keptMiB: Math.round((10 * (usedAfterCollection().live - before.live)) / MIB) / 10,
  }
}

/** Bytes that are resident, and those in use by JavaScript and array buffers, once garbage is collected. */
function usedAfterCollection(): { readonly rss: number; readonly live: number } {
  // The first collection leaves what finalizers and the sweeper of array buffers have still to free.
  for (let i = 0; i < 2; i++) collectGarbage()
  const { rss, heapUsed, external } = process.memoryUsage()
  return { rss, live: heapUsed + external }
}

function lineOf(fuzzed: Fuzzed): string {
  const { decoder, isSigned, mutants, accepted, untyped, firstUntyped, growthMiB, keptMiB } = fuzzed
  const kind = isSigned ? 'signed' : 'unsigned'
  const first = firstUntyped === undefined ? '' : `, first ${firstUntyped.slice(0, 500)}`
  return `${decoder} (${kind}): ${mutants} mutants, ${accepted} accepted, ${untyped} errors that are not ours, +${growthMiB} MiB, ${keptMiB} kept${first}`
}
