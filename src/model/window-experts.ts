/**
 * The experts of a layer in a pass of windows: each computes the rows that at least one routing has sent to it. Low-rank
 * experts share the products with the public weights. Does not know routers.
 */
import { expertName, FACTORS, FFN_PROJECTIONS, factorName, PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import { lowRankExperts } from './params.ts'
import type { ExpertRows } from './routing-plan.ts'
import { requireWeight, type WeightMap } from './weights.ts'
import { factorInput } from './window-layers.ts'
import type { WindowModel } from './window-model.ts'
import { gatherRows, scatterAddRows, type UsedRows, unionOfRows } from './window-rows.ts'
import type { BatchStreams, Member } from './window-streams.ts'

/** Experts whose weights are read together. */
export interface ExpertGroup {
  readonly experts: readonly number[]
  /** Whether these are the public expert and the low-rank ones; otherwise all have the same whole weights. */
  readonly isShared: boolean
}

type Arrays = Readonly<Record<string, Float32Array>>

/** The experts of a layer in groups. */
export function expertGroups(weights: WeightMap, layer: number, E: number): ExpertGroup[] {
  const lowRank = lowRankExperts(weights, E)
  const shared = lowRank.size === 0 ? [] : [PUBLIC_EXPERT, ...lowRank]
  const groups: { experts: number[]; isShared: boolean }[] = []
  if (shared.length > 0) groups.push({ experts: shared, isShared: true })
  const weightsOf = (e: number): unknown[] =>
    FFN_PROJECTIONS.map((projection) => requireWeight(weights, expertName(layer, e, projection)))
  for (let e = 0; e < E; e++) {
    if (shared.includes(e)) continue
    const own = weightsOf(e)
    const same = groups.find(
      ({ experts: [first], isShared }) =>
        !isShared && weightsOf(first as number).every((weight, i) => weight === own[i]),
    )
    if (same === undefined) groups.push({ experts: [e], isShared: false })
    else same.experts.push(e)
  }
  return groups
}

/** Rows that an expert computes for one routing, and the sum that receives them. */
interface Chosen {
  readonly plan: ExpertRows
  readonly member: Member
}

/** What a group computes of one stream. */
interface Work {
  /** (N, C). */
  readonly u: Float32Array
  readonly chosen: readonly Chosen[]
}

/**
 * Adds the weighted outputs of a group to the sums of every routing. Reads no weights if no row is sent to the group.
 * @param onBatch called after each batch, and awaited
 * @throws the signal's reason; as `WeightSource.read`.
 */
export async function mixGroup(
  model: WindowModel,
  states: readonly BatchStreams[],
  layer: number,
  group: ExpertGroup,
  onBatch: (state: BatchStreams) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  let weights: Arrays | undefined
  for (const state of states) {
    for (const work of workOf(state, group)) {
      weights ??= await model.memory.read(weightNames(layer, group), signal)
      const step = { model, N: state.N, ...work, weights, signal }
      if (group.isShared) await mixShared(step)
      else await mixWhole(step)
    }
    await onBatch(state)
  }
}

function workOf({ streams }: BatchStreams, { experts }: ExpertGroup): Work[] {
  return streams
    .map(({ u, members }) => ({
      u,
      chosen: members.flatMap((member) =>
        (member.plan?.experts ?? [])
          .filter(({ expert }) => experts.includes(expert))
          .map((plan) => ({ plan, member })),
      ),
    }))
    .filter(({ chosen }) => chosen.length > 0)
}

/** Names of the weights of a group by the names of inputs; factors have the number of their expert before them. */
function weightNames(layer: number, { experts, isShared }: ExpertGroup): Record<string, string> {
  const [first] = experts as [number]
  const projections = FFN_PROJECTIONS.map((name) => [name, expertName(layer, first, name)])
  const guests = isShared ? experts.filter((e) => e !== PUBLIC_EXPERT) : []
  const factors = guests.flatMap((e) =>
    FFN_PROJECTIONS.flatMap((projection) =>
      FACTORS.map((factor) => [
        `${e}.${factorInput(projection, factor)}`,
        factorName(layer, e, projection, factor),
      ]),
    ),
  )
  return Object.fromEntries([...projections, ...factors])
}

interface Step extends Work {
  readonly model: WindowModel
  readonly N: number
  readonly weights: Arrays
  readonly signal: AbortSignal | undefined
}

/** One whole expert, or several with the same weights. */
async function mixWhole({ model, N, u, chosen, weights, signal }: Step): Promise<void> {
  const { hiddenSize: C } = model.config
  const used = unionOfRows(
    chosen.map(({ plan }) => plan.rows),
    N,
  )
  const n = used.rows.length
  const x = gatherRows(u, used.rows, C, model.scratch('x', N * C))
  const out = model.scratch('out', N * C).subarray(0, n * C)
  signal?.throwIfAborted()
  await model.layers.expert(n, { x, ...weights }, { y: out })
  addTo(model, N, chosen, used, out)
}

/** The public expert and the low-rank ones. */
async function mixShared({ model, N, u, chosen, weights, signal }: Step): Promise<void> {
  const { hiddenSize: C, intermediateSize: F } = model.config
  const used = unionOfRows(
    chosen.map(({ plan }) => plan.rows),
    N,
  )
  const n = used.rows.length
  const x = gatherRows(u, used.rows, C, model.scratch('x', N * C))
  const gate = model.scratch('gate', N * F).subarray(0, n * F)
  const up = model.scratch('up', N * F).subarray(0, n * F)
  const { gate_proj, up_proj, down_proj } = weights as Record<string, Float32Array>
  signal?.throwIfAborted()
  await model.layers.products(n, { x, gate_proj, up_proj } as Arrays, { gate, up })
  for (const expert of new Set(chosen.map(({ plan }) => plan.expert))) {
    const own = chosen.filter(({ plan }) => plan.expert === expert)
    const ownRows = unionOfRows(
      own.map(({ plan }) => plan.rows),
      N,
    )
    const m = ownRows.rows.length
    const at = ownRows.rows.map((row) =>
      used.positions === undefined ? row : (used.positions[row] as number),
    )
    const gathered = (all: Float32Array, width: number, name: string): Float32Array =>
      gatherRows(all, at, width, model.scratch(name, N * width))
    const inputs: Record<string, Float32Array> = {
      gate: gathered(gate, F, 'own gate'),
      up: gathered(up, F, 'own up'),
      down_proj: down_proj as Float32Array,
    }
    const out = model.scratch('out', N * C).subarray(0, m * C)
    signal?.throwIfAborted()
    if (expert === PUBLIC_EXPERT) await model.layers.activated(m, inputs, { y: out })
    else {
      inputs['x'] = gathered(x, C, 'own x')
      for (const projection of FFN_PROJECTIONS) {
        for (const factor of FACTORS) {
          const name = factorInput(projection, factor)
          inputs[name] = weights[`${expert}.${name}`] as Float32Array
        }
      }
      const rank = (inputs[factorInput('gate_proj', 'A')] as Float32Array).length / C
      await model.layers.adapted(m, rank, inputs, { y: out })
    }
    addTo(model, N, own, ownRows, out)
  }
}

/** Adds an expert's output, rows of width C, to the sums of every routing that has chosen it. */
function addTo(
  model: WindowModel,
  N: number,
  chosen: readonly Chosen[],
  used: UsedRows,
  out: Float32Array,
): void {
  for (const { plan, member } of chosen) {
    member.y ??= model.buffers(N).take().fill(0)
    scatterAddRows(member.y, plan, used, out, model.config.hiddenSize)
  }
}
