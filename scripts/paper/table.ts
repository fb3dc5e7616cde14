/**
 * The rows of the table of `bench -- paper` in order, with the seeds for which each is run and the compute of a token.
 * Does not know how a row is computed or printed.
 */
import type { ModelConfig } from '../../src/model/config.ts'
import { Bounds } from './bounds.ts'
import { DenseRows, TOP_K } from './dense-rows.ts'
import type { Experiment, NatsBySet } from './experiment.ts'
import type { RowGroup } from './results.ts'
import { GATE, type Rows } from './rows.ts'
import type { Settings } from './settings.ts'
import type { StreamGateKind } from './stream-gates.ts'

export interface RowSpec {
  readonly id: string
  readonly label: string
  readonly group: RowGroup
  /** Whether the row is run for every seed or only for the first. */
  readonly seeds: 'all' | 'first'
  /** Multiply-adds for one token divided by those of the public model. */
  readonly compute: number
  readonly run: (seed: number) => Promise<NatsBySet>
}

/** A gate from moments of the first stream instead of token shares. */
const STREAMS: StreamGateKind = { solver: 'discriminant', decays: [0.9], scale: 0.5, prior: 1 }

/** Factor of the steps in one row, which shows whether longer training closes the gap to dense experts. */
const LONGER = 5

/** Multiply-adds for one token with `active` FFNs divided by those with one; without attention scores. */
export function computeOf({
  hiddenSize: C,
  intermediateSize: F,
  numHiddenLayers: L,
  vocabSize: V,
}: ModelConfig) {
  const trunk = L * 4 * C * C + V * C
  const ffn = L * 3 * C * F
  return (active: number): number => (trunk + active * ffn) / (trunk + ffn)
}

export function rowSpecs(rows: Rows, experiment: Experiment, settings: Settings): RowSpec[] {
  const { owners } = experiment
  const dense = new DenseRows(experiment)
  const bounds = new Bounds(experiment, rows, dense)
  const cost = computeOf(settings.config)
  const N = owners.length + 1
  const all = (
    group: RowGroup,
    id: string,
    label: string,
    compute: number,
    run: RowSpec['run'],
  ): RowSpec => ({ id, label, group, seeds: 'all', compute, run })
  const headline = (id: string, label: string, compute: number, run: RowSpec['run']): RowSpec =>
    all('headline', id, label, compute, run)
  const first = (...[group, id, label, compute, run]: Parameters<typeof all>): RowSpec => ({
    ...all(group, id, label, compute, run),
    seeds: 'first',
  })
  const recipe = (
    id: string,
    label: string,
    variant: (domain: string, seed: number) => Promise<object>,
  ): RowSpec[] => [
    first('recipe', `${id}-gate`, `${label}; gate`, cost(TOP_K), (seed) =>
      rows.recipe(id, seed, (domain) => variant(domain, seed), GATE),
    ),
    first('recipe', `${id}-rows`, `${label}; rows`, cost(TOP_K), (seed) =>
      rows.recipe(id, seed, (domain) => variant(domain, seed)),
    ),
  ]
  const router = (
    id: string,
    label: string,
    topK: number,
    options: Parameters<Rows['composition']>[2],
  ): RowSpec =>
    first('router', id, label, cost(topK), (seed) => rows.composition(id, seed, { topK, ...options }))
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = settings.config
  /** Size of the FFNs in a bf16 package. Whole FFNs are as large as those of rank C F / (C + F). */
  const packageSize = (rank: number): string => `${((2 * L * 3 * rank * (C + F)) / 1e6).toFixed(2)} MB`
  const everything = Array.from({ length: N - 1 }, (_, i) => i + 1)
  const specs = [
    headline('public', 'public model', 1, () => dense.publicModel()),
    ...owners.map((domain) =>
      headline(`dense-${domain}`, `dense expert ${domain}`, 1, (seed) => dense.dense(domain, seed)),
    ),
    ...owners.map((domain) =>
      headline(`pair-${domain}`, `pair expert ${domain}`, cost(2), (seed) => rows.pair(domain, seed)),
    ),
    headline('soup', 'soup, uniform', 1, (seed) => dense.uniformSoup(seed)),
    headline('weighted-soup', 'soup, weighted by likelihood of 64 tokens', 1, (seed) =>
      dense.weightedSoup(seed),
    ),
    headline('btm', 'BTM ensemble', N, async (seed) => (await dense.btm(seed)).nats),
    headline('prompt-routing', 'prompt routing by a domain classifier', 1, (seed) =>
      dense.promptRouting(seed),
    ),
    headline('btm-pairs', 'BTM ensemble of pairs', 1 + owners.length * cost(2), (seed) =>
      bounds.btmOfPairs(seed),
    ),
    headline('prompt-routing-pairs', 'prompt routing among pairs', cost(2), (seed) =>
      bounds.promptRoutingOfPairs(seed),
    ),
    headline('btx', 'BTX, trained on public text', cost(TOP_K), (seed) => dense.btx(seed)),
    headline('plain', "paper's recipe, no router tuning", cost(TOP_K), (seed) => rows.plain(seed)),
    headline('rows', 'FlexMesh, router rows', cost(TOP_K), (seed) => rows.composition('rows', seed, {})),
    headline('router-tuned', 'FlexMesh, router rows tuned on proxy text', cost(TOP_K), (seed) =>
      rows.routerTuned(seed),
    ),
    headline('gate', 'FlexMesh, solved router (default)', cost(TOP_K), (seed) =>
      rows.composition('gate', seed, { gate: GATE }),
    ),
    headline('router-tuned-gate', 'FlexMesh, solved router and tuned rows', cost(TOP_K), (seed) =>
      rows.routerTuned(seed, GATE),
    ),
    all('bound', 'joint-all', 'joint mixture, all data (2x compute)', cost(TOP_K), (seed) =>
      dense.joint(seed, 'all'),
    ),
    first('bound', 'joint-half', 'joint mixture, half the data (1x compute)', cost(TOP_K), (seed) =>
      dense.joint(seed, 'half'),
    ),
    first('bound', 'continued', 'dense model, all data', 1, (seed) => bounds.continued(seed)),
    first('own', 'own-dense', 'own dense expert', 1, (seed) => bounds.ownDense(seed)),
    first('own', 'own-pair', 'own pair', cost(2), (seed) => bounds.ownPair(seed)),
    ...(
      [
        ['ffn', 'FFNs'],
        ['ffn-attention', 'FFNs and attention'],
        ['ffn-embedding', 'FFNs and embedding'],
        ['ffn-head', 'FFNs and head'],
      ] as const
    ).map(([part, label]) =>
      first('own', `own-${part}`, `own dense expert, only ${label}`, 1, (seed) => bounds.ownPart(part, seed)),
    ),
    ...[1, 2, N].map((active) =>
      all(
        'whole',
        `gated-dense-${active}`,
        `dense experts behind the solved router, top ${active}`,
        active,
        (seed) => bounds.gatedDense(seed, active),
      ),
    ),
    all('whole', 'gated-dense-likelihood', 'dense experts, solved router and likelihood, top 2', N, (seed) =>
      bounds.gatedDense(seed, 2, 'likelihood'),
    ),
    ...[2e-3, 1e-2].flatMap((peak) =>
      recipe(`rate-${peak}`, `pairs at a rate of ${peak}`, () => Promise.resolve({ peak })),
    ),
    ...settings.replayShares.flatMap((share) =>
      recipe(`replay-${share}`, `public replay ${share}`, () => Promise.resolve({ replayShare: share })),
    ),
    ...recipe('long', `pairs trained ${LONGER} times as long`, () =>
      Promise.resolve({ steps: LONGER * settings.expertTraining.steps }),
    ),
    ...recipe('no-bias', 'no bias', () => Promise.resolve({ bias: false })),
    ...recipe('random-start', 'random router start', (domain, seed) => rows.starts.random(domain, seed)),
    ...recipe('hidden-start', 'hidden-state router start', (domain, seed) =>
      rows.starts.hiddenState(domain, seed),
    ),
    ...(rows.hasEmbedder
      ? [
          ...recipe('embedder-start', 'sentence-embedder router start', (domain) =>
            rows.starts.embedder(domain),
          ),
          first(
            'recipe',
            'plain-embedder',
            "paper's recipe, rows from a sentence embedder",
            cost(TOP_K),
            (seed) => rows.plainByEmbedder(seed),
          ),
        ]
      : []),
    first(
      'recipe',
      'no-coordination',
      'no coordination: dense FFNs in the public trunk',
      cost(TOP_K),
      (seed) => dense.noCoordination(seed),
    ),
    router('rows-as-trained', 'rows, bias carried, no release bias', TOP_K, {
      rows: { scale: 1, bias: 'carried', shift: 0 },
    }),
    router('rows-bias-dropped', 'rows, bias dropped', TOP_K, {
      rows: { scale: 1, bias: 'dropped', shift: 0 },
    }),
    ...[0.8, 0.95].map((decay) =>
      router(`gate-decay-${decay}`, `gate, decay ${decay}`, TOP_K, { gate: { ...GATE, decay } }),
    ),
    router('gate-512', 'gate, statistics of 512 documents', TOP_K, { gate: { ...GATE, documents: 512 } }),
    ...[8, 1].map((epsilon) =>
      router(`gate-noised-${epsilon}`, `gate, noised statistics, epsilon ${epsilon}`, TOP_K, {
        gate: { ...GATE, epsilon },
      }),
    ),
    router('gate-streams', 'gate by discriminants of the first stream', TOP_K, { gate: STREAMS }),
    router('gate-streams-two', 'gate by discriminants, decays 0.7 and 0.95', TOP_K, {
      gate: { ...STREAMS, decays: [0.7, 0.95] },
    }),
    router('gate-odds', 'gate, log-odds as solved', TOP_K, { gate: { ...GATE, scale: 1 } }),
    router('gate-quarter', 'gate, a quarter of the log-odds', TOP_K, { gate: { ...GATE, scale: 0.25 } }),
    router('gate-no-prior', 'gate, no prior for the public expert', TOP_K, { gate: { ...GATE, prior: 0 } }),
    router('gate-ridge', 'gate by ridge regression on the first stream', TOP_K, {
      gate: { decays: [0.9], solver: 'ridge', scale: 10, prior: 0 },
    }),
    router('gate-alone', 'gate without rows', TOP_K, {
      gate: GATE,
      rows: { scale: 0, bias: 'dropped', shift: 0 },
    }),
    router('gate-as-trained', 'gate and rows without release bias', TOP_K, {
      gate: GATE,
      rows: { scale: 1, bias: 'carried', shift: 0 },
    }),
    ...settings.ranks.flatMap((rank) => [
      first('rank', `svd-rank-${rank}`, `rank ${rank} by SVD, ${packageSize(rank)}`, cost(TOP_K), (seed) =>
        rows.cut(rank, seed),
      ),
      first(
        'rank',
        `trained-rank-${rank}`,
        `rank ${rank} trained, ${packageSize(rank)}`,
        cost(TOP_K),
        (seed) => rows.recipe(`rank-${rank}`, seed, () => Promise.resolve({ rank }), GATE),
      ),
    ]),
    ...[1, 2, 3, N].map(
      (topK): RowSpec =>
        first('experts', `gate-top-${topK}`, `gate, top ${topK} of ${N}`, cost(topK), (seed) =>
          rows.composition(`gate-top-${topK}`, seed, { gate: GATE, topK }),
        ),
    ),
    ...[1, 2, N].map(
      (topK): RowSpec =>
        first('experts', `rows-top-${topK}`, `rows, top ${topK} of ${N}`, cost(topK), (seed) =>
          rows.composition(`rows-top-${topK}`, seed, { topK }),
        ),
    ),
    ...everything.map(
      (left): RowSpec =>
        first(
          'experts',
          `without-${owners[left - 1]}`,
          `gate, without ${owners[left - 1]}`,
          cost(TOP_K),
          (seed) =>
            rows.composition(`without-${owners[left - 1]}`, seed, {
              gate: GATE,
              present: [0, ...everything.filter((index) => index !== left)],
            }),
        ),
    ),
  ]
  return specs.filter(({ id }) => settings.rows.test(id))
}
