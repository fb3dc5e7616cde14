/**
 * Measures the throughput of a package of 512 MiB between processes on loopback, from one source and from three,
 * with chunks verified and durably stored. Baselines are the same bytes over a bare libp2p stream with the settings
 * of js-libp2p (`rawStream`) and with ours (`ownStream`) and over raw TCP, which all discard the bytes, and helia's
 * bitswap, which verifies and keeps them.
 */
import { randomFillSync } from 'node:crypto'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench } from '../benchmark.ts'
import { median, rounded, versionOf } from '../machine.ts'
import { bitswapVersion } from './bitswap.ts'
import { type Kind, SENT_BYTES } from './ends.ts'
import type { Reading } from './meter.ts'
import { EndProcess } from './spawn.ts'

const MIB = SENT_BYTES / 2 ** 20
const ROUNDS = 5

interface Lane {
  readonly senders: readonly EndProcess[]
  readonly receiver: EndProcess
  /** MiB/s of each round. */
  readonly rates: number[]
  /** Readings of the receiver, and of all senders, in each round. */
  readonly received: Reading[]
  readonly sent: Reading[][]
}

const LANES = {
  exchange: { kind: 'exchange', senders: 1 },
  threeSources: { kind: 'exchange', senders: 3 },
  rawStream: { kind: 'libp2pDefaults', senders: 1 },
  ownStream: { kind: 'libp2p', senders: 1 },
  rawTcp: { kind: 'tcp', senders: 1 },
  bitswap: { kind: 'bitswap', senders: 1 },
} as const satisfies Record<string, { kind: Kind; senders: number }>
type LaneName = keyof typeof LANES

export async function benchExchange(say: (line: string) => void): Promise<Bench> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const processes: EndProcess[] = []
  try {
    const file = join(work, 'package')
    await writeRandom(file)
    const start = async (name: LaneName, role: 'sender' | 'receiver'): Promise<EndProcess> => {
      const dir = join(work, `${role === 'sender' ? LANES[name].kind : name}-${role}`)
      const end = await EndProcess.start(LANES[name].kind, { role, dir, file })
      processes.push(end)
      return end
    }
    const lanes = new Map<LaneName, Lane>()
    const installed = bitswapVersion()
    const names = (Object.keys(LANES) as LaneName[]).filter((name) => name !== 'bitswap' || installed)
    for (const name of names) {
      const senders: EndProcess[] = []
      while (senders.length < LANES[name].senders) senders.push(await start(name, 'sender'))
      lanes.set(name, { senders, receiver: await start(name, 'receiver'), rates: [], received: [], sent: [] })
    }
    for (let round = 0; round < ROUNDS; round++) {
      const said: string[] = []
      for (const [name, lane] of lanes) said.push(`${name} ${Math.round(await transfer(lane))} MiB/s`)
      say(`round ${round + 1} of ${ROUNDS}: ${said.join(', ')}`)
    }
    return report(lanes, installed)
  } finally {
    for (const end of processes) end.stop()
    await rm(work, { recursive: true, force: true })
  }
}

/** Runs one transfer. Returns its rate in MiB/s. */
async function transfer({ senders, receiver, rates, received, sent }: Lane): Promise<number> {
  for (const sender of senders) await sender.startMeter()
  const { ms, ...reading } = await receiver.receive(senders.map(({ offer }) => offer))
  received.push(reading)
  sent.push(await Promise.all(senders.map((sender) => sender.stopMeter())))
  const rate = (MIB * 1000) / ms
  rates.push(rate)
  return rate
}

function report(lanes: ReadonlyMap<LaneName, Lane>, bitswap: string | undefined): Bench {
  const lane = (name: LaneName): Lane => lanes.get(name) as Lane
  const names = [...lanes.keys()]
  const perSecond = (name: LaneName): number => Math.round(median(lane(name).rates))
  const ratio = (name: LaneName, to: LaneName): number =>
    rounded(median(lane(name).rates.map((rate, round) => rate / (lane(to).rates[round] as number))))
  /** Maximum over all processes and rounds, including the first round, whose code is cold. */
  const worst = (name: LaneName): { eventLoopP99Ms: number; rssGrowthMiB: number } => {
    const { received, sent } = lane(name)
    const readings = [...received, ...sent.flat()]
    const most = (of: (reading: Reading) => number): number => Math.round(Math.max(...readings.map(of)))
    return {
      eventLoopP99Ms: most((reading) => reading.eventLoopP99Ms),
      rssGrowthMiB: most((reading) => reading.rssGrowthMiB),
    }
  }
  const perGib = (seconds: readonly number[]): number => rounded((median(seconds) * 1024) / MIB)
  const cpu = (name: LaneName): { receiver: number; senders: number } => ({
    receiver: perGib(lane(name).received.map(({ cpuSeconds }) => cpuSeconds)),
    senders: perGib(lane(name).sent.map((all) => all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0))),
  })
  const ratios = {
    rawStream: ratio('exchange', 'rawStream'),
    ownStream: ratio('exchange', 'ownStream'),
    threeSources: ratio('threeSources', 'exchange'),
    rawTcp: ratio('exchange', 'rawTcp'),
    ...(lanes.has('bitswap') ? { bitswap: ratio('exchange', 'bitswap') } : {}),
  }
  const one = worst('exchange')
  const three = worst('threeSources')
  const cpuSecondsPerGib = Object.fromEntries(names.map((name) => [name, cpu(name)]))
  return {
    json: {
      ratios,
      ...one,
      threeSources: three,
      mebibytesPerSecond: Object.fromEntries(names.map((name) => [name, perSecond(name)])),
      cpuSecondsPerGib,
      peers: { libp2p: versionOf('libp2p'), bitswap: bitswap ?? 'not installed' },
    },
    lines: [
      ...names.map(
        (name) =>
          `${name}: ${perSecond(name)} MiB/s; CPU seconds for each GiB: receiver ${cpu(name).receiver}, senders ${cpu(name).senders}`,
      ),
      `one source: ${ratios.rawStream} times a bare libp2p stream, ${ratios.ownStream} times one with our settings, ${ratios.rawTcp} times raw TCP`,
      `three sources: ${ratios.threeSources} times one source`,
      `bitswap: ${ratios.bitswap === undefined ? 'not installed' : `we are ${ratios.bitswap} times as fast`}`,
      `event-loop delay p99 ${one.eventLoopP99Ms} ms, memory grew by ${one.rssGrowthMiB} MiB, worst process; with three sources ${three.eventLoopP99Ms} ms, ${three.rssGrowthMiB} MiB`,
    ],
  }
}

async function writeRandom(path: string): Promise<void> {
  const handle = await open(path, 'w')
  const bytes = new Uint8Array(2 ** 20)
  for (let i = 0; i < MIB; i++) await handle.write(randomFillSync(bytes))
  await handle.close()
}
