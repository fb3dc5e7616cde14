/**
 * Counters of the inference API and gauges of the node in the text format of Prometheus. Names follow vLLM's, with
 * `flexmesh_` before them, so that its boards work after a rename. Labels never hold prompts, keys, peer ids or names of
 * documents, and nothing here is derived from private text. Knows nothing about HTTP and models.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/**
 * Gauges of prom-client whose names end as those of counters do, which `promtool check metrics` reports. Their numbers are
 * also in gauges without `_total`, by type.
 */
const MISNAMED = ['handles', 'requests', 'resources'].map((what) => `nodejs_active_${what}_total`)

/** One answer, from the request to its end. */
export interface AnswerMeter {
  /** The request has left the queue. @param promptTokens number of tokens of its prompt */
  admitted(promptTokens: number): void
  /** A piece of the answer was computed. @param tokens number of tokens of the answer so far */
  produced(tokens: number): void
  /** @param outcome `stop` or `length`; `error` and `abort` for an answer that is not complete */
  ended(outcome: 'stop' | 'length' | 'error' | 'abort'): void
}

/** What the node knows of itself when it is asked. */
export interface NodeState {
  readonly membersConnected: number
  readonly membersAway: number
  /** Number of packages by their state. */
  readonly packages: Readonly<Record<string, number>>
  readonly freeBytes: number
  /** When the node key ends, Unix seconds; absent if the node has none beside the institution key. */
  readonly nodeKeyExpiresAt?: number
  /** Number of things that wait for a person, by level. */
  readonly attention: Readonly<Record<'bad' | 'warn', number>>
}

export interface MetricsInit {
  readonly version: string
  readonly state: () => Promise<NodeState>
}

/** Seconds; the upper ones are for prompts that fill the context of a large model. */
const LATENCIES = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
const TOKEN_TIMES = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2]

export class Metrics {
  readonly #registry = new Registry()
  readonly #running: Gauge
  readonly #waiting: Gauge
  readonly #promptTokens: Counter
  readonly #generationTokens: Counter
  readonly #requests: Counter<'finished_reason'>
  readonly #queueTime: Histogram
  readonly #firstToken: Histogram
  readonly #interToken: Histogram
  readonly #latency: Histogram

  constructor({ version, state }: MetricsInit) {
    const registers = [this.#registry]
    collectDefaultMetrics({ register: this.#registry })
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name)
    const gauge = (name: string, help: string): Gauge =>
      new Gauge({ name: `flexmesh_${name}`, help, registers })
    const counter = (name: string, help: string): Counter =>
      new Counter({ name: `flexmesh_${name}`, help, registers })
    const histogram = (name: string, help: string, buckets: number[]): Histogram =>
      new Histogram({ name: `flexmesh_${name}`, help, buckets, registers })
    this.#running = gauge('num_requests_running', 'Requests whose answer is being computed')
    this.#waiting = gauge('num_requests_waiting', 'Requests that wait for a place')
    this.#promptTokens = counter('prompt_tokens_total', 'Tokens of prompts')
    this.#generationTokens = counter('generation_tokens_total', 'Tokens of answers')
    this.#requests = new Counter({
      name: 'flexmesh_request_success_total',
      help: 'Ended answers by the reason of their end; error and abort are answers that are not complete',
      labelNames: ['finished_reason'],
      registers,
    })
    this.#queueTime = histogram('request_queue_time_seconds', 'Time until a request has a place', LATENCIES)
    this.#firstToken = histogram('time_to_first_token_seconds', 'Time until the first token', LATENCIES)
    this.#interToken = histogram('inter_token_latency_seconds', 'Time from token to token', TOKEN_TIMES)
    this.#latency = histogram('e2e_request_latency_seconds', 'Time until the end of the answer', LATENCIES)
    new Gauge({
      name: 'flexmesh_build_info',
      help: 'Version of the program',
      labelNames: ['version'],
      registers,
    }).set({ version }, 1)
    this.#addNodeState(state)
  }

  /** Content type of `text`. */
  get contentType(): string {
    return this.#registry.contentType
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }

  /** A request has arrived. */
  request(): AnswerMeter {
    const start = performance.now()
    const since = (from: number): number => (performance.now() - from) / 1000
    let isAdmitted = false
    let hasEnded = false
    let last = 0
    let tokens = 0
    this.#waiting.inc()
    return {
      admitted: (promptTokens) => {
        isAdmitted = true
        this.#waiting.dec()
        this.#running.inc()
        this.#promptTokens.inc(promptTokens)
        this.#queueTime.observe(since(start))
      },
      produced: (total) => {
        const added = total - tokens
        if (added <= 0) return
        if (tokens === 0) this.#firstToken.observe(since(start))
        else this.#interToken.observe(since(last) / added)
        last = performance.now()
        tokens = total
        this.#generationTokens.inc(added)
      },
      ended: (outcome) => {
        if (hasEnded) return
        hasEnded = true
        if (isAdmitted) this.#running.dec()
        else this.#waiting.dec()
        this.#requests.inc({ finished_reason: outcome })
        this.#latency.observe(since(start))
      },
    }
  }

  /** Gauges that are read from the node when somebody asks. */
  #addNodeState(state: () => Promise<NodeState>): void {
    let asked: Promise<NodeState> | undefined
    // All gauges of one answer read the same state.
    const read = (): Promise<NodeState> => {
      asked ??= state().finally(() => {
        asked = undefined
      })
      return asked
    }
    const gauge = (
      name: string,
      help: string,
      label: string | undefined,
      values: (now: NodeState) => Readonly<Record<string, number>>,
    ): void => {
      new Gauge({
        name: `flexmesh_${name}`,
        help,
        labelNames: label === undefined ? [] : [label],
        registers: [this.#registry],
        async collect() {
          const now = await read()
          this.reset()
          for (const [value, count] of Object.entries(values(now)))
            this.set(label === undefined ? {} : { [label]: value }, count)
        },
      })
    }
    gauge('peers', 'Other members by whether they are connected', 'state', (now) => ({
      connected: now.membersConnected,
      away: now.membersAway,
    }))
    gauge('experts', 'Packages by state', 'status', ({ packages }) => packages)
    gauge(
      'attention',
      'Things that wait for a person, as "flexmesh status" lists them; bad: the node cannot do its work',
      'level',
      (now) => now.attention,
    )
    gauge('disk_free_bytes', 'Free bytes of the file system of the home folder', undefined, (now) => ({
      free: now.freeBytes,
    }))
    gauge(
      'node_key_expires_seconds',
      'When the key of this node ends, Unix seconds; absent without a node key',
      undefined,
      ({ nodeKeyExpiresAt }): Record<string, number> =>
        nodeKeyExpiresAt === undefined ? {} : { end: nodeKeyExpiresAt },
    )
  }
}

/** Counts nothing. */
export const UNMETERED: AnswerMeter = {
  admitted: () => undefined,
  produced: () => undefined,
  ended: () => undefined,
}
