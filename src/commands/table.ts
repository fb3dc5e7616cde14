/**
 * What a node can be told to do, one async generator a command: progress out, result back. The
 * command line runs them in a running node through its control socket, or on the home folder itself.
 */

import type { Verdict } from '../acceptance/accept.ts'
import type { FloatDtype } from '../checkpoint/safetensors.ts'
import { expertLabels, ShareTally } from '../composition/attribution.ts'
import { compositionDigest } from '../composition/compose.ts'
import { type Exporter, exportComposition } from '../composition/export-composition.ts'
import { exportOnnx } from '../composition/export-onnx.ts'
import { selectionMask } from '../composition/selection.ts'
import { REVOCATION_REASONS } from '../consortium/member.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { reporting } from '../lib/reporting.ts'
import { routerChoice } from '../model/gates.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { PUBLISHED_STATISTICS, type PublishRequest } from '../owner/release.ts'
import { TRAIN_DEFAULTS } from '../owner/train-expert.ts'
import type { ControlHandler } from '../serving/control.ts'
import { evaluateText } from './evaluate.ts'

const MAX_TEXT = 65_536
const MAX_PATHS = 1024
const MAX_PATH = 4096
const MAX_TOP_K = 65
const MAX_SHARD_MB = 1_000_000
const DEFAULT_MAX_TOKENS = 64
/** Above an epsilon of a thousand, noise protects nobody. */
const MAX_EPSILON_MILLI = 1_000_000
const MAX_STEPS = 10_000_000
/** Micro-batches a step: one batch is read as a whole, 4 MiB at this many rows. */
const MAX_ACCUMULATE = 1024
/** Of any model; that of this one is checked where its sizes are known. */
const MAX_RANK = 65_536

function names(fields: Fields, name: string): string[] | undefined {
  return fields.has(name) ? fields.list(name, 64, (item) => String(item)) : undefined
}

export function nodeCommands(node: FlexMeshNode): Record<string, ControlHandler> {
  return {
    async *ping() {
      return { peerId: node.identity.peerId, institution: node.settings.institution }
    },
    async *invite() {
      return { invite: await node.invite() }
    },
    async *members() {
      const { members, version } = node.membership.roster()
      const connected = node.connectedMembers()
      return {
        consortium: node.charter.name,
        rosterVersion: version,
        members: members.map(({ institution, peerId, role, revoked }) => ({
          institution,
          peerId,
          role,
          revoked: revoked !== undefined,
          connected: connected.includes(peerId) || peerId === node.identity.peerId,
        })),
        requests: (await node.membership.requests()).map(({ institution, peerId }) => ({
          institution,
          peerId,
        })),
      }
    },
    async *approve(args) {
      const fields = new Fields(args, 'approve')
      return { approved: await node.approve(fields.has('who') ? fields.text('who', 100) : undefined) }
    },
    async *revoke(args) {
      const fields = new Fields(args, 'revoke')
      const reason = fields.has('reason') ? fields.literal('reason', ...REVOCATION_REASONS) : 'other'
      const who = fields.text('who', 100)
      await node.revoke(who, reason)
      return { revoked: who }
    },
    async *accept(args) {
      const ids = await node.reconsider(new Fields(args, 'accept').text('package', 100))
      return { verdicts: await Promise.all(ids.map((id) => node.verdicts.get(id))) }
    },
    async *refuse(args) {
      return { refused: await node.refuse(new Fields(args, 'refuse').text('package', 100)) }
    },
    async *train(args, signal) {
      const fields = new Fields(args, 'train')
      const request = {
        name: fields.text('name', 64),
        paths: fields.list('data', MAX_PATHS, (item) => String(item)),
        steps: fields.has('steps') ? fields.uint('steps', MAX_STEPS, 1) : TRAIN_DEFAULTS.steps,
        accumulate: fields.has('accumulate')
          ? fields.uint('accumulate', MAX_ACCUMULATE, 1)
          : TRAIN_DEFAULTS.accumulate,
        rank: fields.has('rank') ? fields.uint('rank', MAX_RANK, 1) : TRAIN_DEFAULTS.rank,
        seed: 1,
      }
      if (fields.has('exportPair')) {
        if (request.rank > 0) {
          throw new InputError(
            'usage',
            'a pair is trained whole elsewhere: leave out --rank here and give it to "flexmesh publish"',
          )
        }
        const directory = fields.text('exportPair', MAX_PATH)
        return yield* countingBytes((onProgress) =>
          node.trainings.exportPair(request, directory, {
            signal,
            shardBytes: shardBytes(fields),
            onProgress,
          }),
        )
      }
      for await (const event of node.trainings.train(request, signal)) {
        if (event.stage === 'done') return event.result
        yield event
      }
      throw new InputError('io', 'training was interrupted; run the command again to go on')
    },
    async *publish(args, signal) {
      const fields = new Fields(args, 'publish')
      const request = {
        name: fields.text('name', 64),
        license: fields.has('license') ? fields.text('license', 64) : 'LicenseRef-consortium-only',
        domain: fields.has('domain') ? fields.text('domain', 80) : 'unspecified',
        dtype: fields.has('dtype') ? fields.literal<FloatDtype>('dtype', 'BF16', 'F16', 'F32') : 'BF16',
        ...statisticsOf(fields),
      }
      if (!fields.has('rank')) return { id: await node.publish(request) }
      const rank = fields.uint('rank', MAX_RANK, 1)
      const cut = await node.trainings.cut(request.name, rank, signal)
      const { own, public: shared } = cut.result
      const id = await node.publish(request, cut)
      return { id, rank, energyKept: cut.energyKept, own, public: shared }
    },
    async *withdraw(args) {
      return { withdrawn: await node.withdraw(new Fields(args, 'withdraw').text('name', 64)) }
    },
    async *experts() {
      await node.settled()
      const verdicts: Verdict[] = await node.verdicts.list()
      const { composition } = node.composer.served
      return {
        composition: composition.digest,
        router: composition.router,
        ...(composition.routerNote === undefined ? {} : { routerNote: composition.routerNote }),
        composed: composition.experts.map(({ id, name, institution }) => ({ id, name, institution })),
        verdicts,
      }
    },
    async *compose(args, signal) {
      const fields = new Fields(args, 'compose')
      const accepted = node.accepted.list()
      const selection = { include: names(fields, 'include'), exclude: names(fields, 'exclude') }
      const mask = selectionMask({ experts: accepted }, selection)
      const composition = await node.composer.compose({
        experts: accepted.filter((_, i) => mask[i + 1] === 0),
        topK: fields.has('topK') ? fields.uint('topK', MAX_TOP_K, 1) : node.composer.topK,
        router: routerChoice(fields) ?? node.composer.router,
      })
      const { digest, topK, experts, router, routerNote } = composition
      const result: Record<string, unknown> = {
        composition: digest,
        topK,
        router,
        ...(routerNote === undefined ? {} : { routerNote }),
        experts: experts.map(({ id, name, institution }) => ({ id, name, institution })),
      }
      if (router === 'solved' && (fields.has('export') || fields.has('exportOnnx'))) {
        const ids = experts.map(({ id }) => id)
        result['exported'] = {
          composition: compositionDigest(node.charter.publicModel.digest, ids, topK, 'rows'),
          router: 'rows',
        }
      }
      if (fields.has('export')) {
        const directory = fields.text('export', MAX_PATH)
        const files = yield* countingBytes((onProgress) =>
          exportComposition(exporterOf(node), experts, {
            directory,
            topK,
            dropBias: fields.has('dropBias') && fields.bool('dropBias'),
            shardBytes: shardBytes(fields),
            signal,
            onProgress,
          }),
        )
        Object.assign(result, { directory, files })
      }
      if (fields.has('exportOnnx')) {
        const directory = fields.text('exportOnnx', MAX_PATH)
        const files = yield* countingBytes((onProgress) =>
          exportOnnx(exporterOf(node), node.publicModel, composition, { directory, signal, onProgress }),
        )
        Object.assign(result, { onnx: { directory, files } })
      }
      return result
    },
    async *generate(args, signal) {
      const fields = new Fields(args, 'generate')
      const prompt = fields.text('prompt', MAX_TEXT)
      const { tokenizer } = node.publicModel
      const include = names(fields, 'include')
      const exclude = names(fields, 'exclude')
      const maxTokens = fields.has('maxTokens') ? fields.uint('maxTokens', 4096, 1) : DEFAULT_MAX_TOKENS
      const sampling = {
        temperature: fields.has('temperatureMilli') ? fields.uint('temperatureMilli', 5000) / 1000 : 0,
        topP: 0.95,
        seed: fields.has('seed') ? fields.uint('seed', 2 ** 32 - 1) : 1,
      }
      const lease = node.composer.acquire()
      try {
        const { model } = lease
        const ids = tokenizer.encode(prompt)
        const room = model.contextLength - 1
        const stream = tokenizer.decodeStream()
        const labels = expertLabels(model.composition)
        const tally = new ShareTally(labels.length)
        let text = ''
        let tokens = 0
        const completion = model.complete(
          {
            prompt: Int32Array.from([tokenizer.endOfText, ...ids.slice(-room)]),
            maxTokens,
            sampling,
            selection: { include, exclude },
          },
          signal,
        )
        for await (const { id, shares } of completion) {
          const piece = stream.push(id)
          text += piece
          tokens++
          tally.add(shares)
          yield { text: piece }
        }
        const shares = tally.shares()
        const experts = labels.map(({ institution }, e) => ({ institution, share: shares[e] as number }))
        return { text: text + stream.flush(), tokens, experts }
      } finally {
        lease.release()
      }
    },
    evaluate: (args, signal) => evaluateText(node, args, signal),
  }
}

/** How router statistics are published: as they are unless noise, or none, is asked for. */
function statisticsOf(fields: Fields): Pick<PublishRequest, 'statistics' | 'epsilonMilli'> {
  const statistics = fields.has('statistics')
    ? fields.literal('statistics', ...PUBLISHED_STATISTICS)
    : 'exact'
  const epsilonMilli = fields.has('epsilonMilli') ? fields.uint('epsilonMilli', MAX_EPSILON_MILLI, 1) : 0
  if ((statistics === 'noised') !== epsilonMilli > 0) {
    throw new InputError(
      'usage',
      'publish: noise on router statistics takes both --router-statistics noised and --noise EPSILON',
    )
  }
  return { statistics, epsilonMilli }
}

function shardBytes(fields: Fields): number | undefined {
  return fields.has('shardMegabytes') ? fields.uint('shardMegabytes', MAX_SHARD_MB, 1) * 1e6 : undefined
}

/** Run something that counts bytes; its counts are the progress. */
function countingBytes<T>(
  action: (onProgress: (done: number, total: number) => void) => Promise<T>,
): AsyncGenerator<{ stage: 'bytes'; done: number; total: number }, T, void> {
  return reporting((report) => action((done, total) => report({ stage: 'bytes', done, total })))
}

function exporterOf(node: FlexMeshNode): Exporter {
  const { consortium, charter, publicModel, blobs, accepted } = node
  return { consortium, charter, publicModel, blobs, manifestOf: (id) => accepted.manifestOf(id) }
}
