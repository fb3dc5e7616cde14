/** Results and progress of node commands in words. Knows no command's workings. */
import { type Digest, shortDigest } from '../lib/bytes.ts'
import { bar, duration, megabytes, type Output, table } from './output.ts'

export function showProgress(output: Output, progress: unknown): void {
  const event = progress as {
    stage?: string
    text?: string
    step?: number
    totalSteps?: number
    loss?: number
    tokensPerSecond?: number
    secondsLeft?: number
    done?: number
    domain?: string
    total?: number
    message?: string
    stats?: {
      train: { documents: number; tokens: number; bytes: number }
      heldOut: { documents: number }
      duplicates: number
      repeated: number
    }
  }
  if (event.stage === 'prepared' && event.stats !== undefined) {
    const { train, heldOut, duplicates, repeated } = event.stats
    const leftOut = [
      ...(duplicates > 0 ? [`; ${duplicates} left out that came before`] : []),
      ...(repeated > 0 ? [`; ${repeated} not held out because they repeat the rest`] : []),
    ]
    output.say(
      `text: ${train.documents} documents, ${train.tokens} tokens, ${train.bytes} bytes to train on; ${heldOut.documents} documents held out${leftOut.join('')}`,
    )
  } else if (event.stage === 'warning') {
    output.say(`warning: ${event.message}`)
  } else if (event.stage === 'bytes') {
    const { done = 0, total = 0 } = event
    output.progress(`writing ${bar(done, total)} ${megabytes(done, total)}`)
  } else if (event.stage === 'score') {
    const { done = 0, total = 0, domain = '', secondsLeft = 0 } = event
    output.progress(`scoring ${bar(done, total)} ${domain}  ${duration(secondsLeft)} left`)
  } else if (event.stage === 'step') {
    const { step = 0, totalSteps = 0, loss = 0, tokensPerSecond = 0, secondsLeft = 0 } = event
    output.progress(
      `training ${bar(step, totalSteps)} ${step}/${totalSteps}  loss ${loss.toFixed(3)}  ${tokensPerSecond.toFixed(0)} tokens/s  ${duration(secondsLeft)} left`,
    )
  }
}

interface VerdictLine {
  readonly id: Digest
  readonly outcome: string
  readonly expert?: string
  readonly code?: string
  readonly reason?: string
}

function verdictLine({ id, outcome, expert, code, reason }: VerdictLine): string {
  return `${shortDigest(id)} ${expert ?? ''} ${outcome}${code === undefined ? '' : ` ${code}: ${reason}`}`
}

/** Of the router, if it has something to say. */
function note(value: Record<string, unknown>): string[] {
  return value['routerNote'] === undefined ? [] : [String(value['routerNote'])]
}

const bits = (value: unknown): string => (typeof value === 'number' ? value.toFixed(3) : '')

export function describe(command: string, result: unknown): string[] {
  const value = result as Record<string, unknown>
  switch (command) {
    case 'invite':
      return [String(value['invite'])]
    case 'members': {
      const members = value['members'] as {
        institution: string
        peerId: string
        role: string
        connected: boolean
        revoked: boolean
      }[]
      const waiting = value['requests'] as { institution: string; peerId: string }[]
      return [
        `${value['consortium']}, roster version ${value['rosterVersion']}`,
        ...table(
          members.map((m) => [
            m.institution,
            m.peerId,
            m.role,
            m.revoked ? 'revoked' : m.connected ? 'connected' : 'away',
          ]),
        ),
        ...waiting.map(({ institution, peerId }) => `waits for approval: ${institution} ${peerId}`),
      ]
    }
    case 'approve':
      return [`approved: ${(value['approved'] as string[]).join(', ')}`]
    case 'revoke':
      return [`no longer a member: ${value['revoked']}`]
    case 'refuse':
      return [`left out: ${(value['refused'] as Digest[]).map(shortDigest).join(', ')}`]
    case 'accept':
      return (value['verdicts'] as VerdictLine[]).map(verdictLine)
    case 'compose': {
      const experts = value['experts'] as { name: string; institution: string }[]
      const onnx = value['onnx'] as { directory: string } | undefined
      const exported = value['exported'] as { composition: string } | undefined
      const written = [value['directory'], onnx?.directory].filter((directory) => directory !== undefined)
      return [
        `composition ${value['composition']}, top-${value['topK']}, router ${value['router']}`,
        `public model${experts.map((e) => ` + ${e.institution}/${e.name}`).join('')}`,
        ...note(value),
        ...(exported === undefined
          ? []
          : [
              `exported models have no place for a gate and route by router rows: composition ${exported.composition}`,
            ]),
        ...written.map((directory) => `written to ${directory}`),
      ]
    }
    case 'train': {
      if (value['directory'] !== undefined) {
        const warnings = value['warnings'] as { message: string }[]
        return [
          ...warnings.map(({ message }) => `warning: ${message}`),
          `pair to train written to ${value['directory']}: ${value['documents']} documents, ${value['tokens']} tokens prepared here`,
          'next: train its expert 1, then flexmesh import-expert DIR with the same --name',
        ]
      }
      const own = value['own'] as { before: number; after: number }
      const shared = value['public'] as { before: number; after: number }
      return [
        `trained ${value['name']}: bits per byte on own held-out text ${bits(own.before)} -> ${bits(own.after)}, on public text ${bits(shared.before)} -> ${bits(shared.after)}`,
        `next: flexmesh publish ${value['name']}`,
      ]
    }
    case 'publish':
      return [`published ${value['id']}`]
    case 'withdraw':
      return [`withdrawn: ${(value['withdrawn'] as Digest[]).join(', ')}`]
    case 'experts': {
      const composed = value['composed'] as { id: Digest; name: string; institution: string }[]
      const verdicts = value['verdicts'] as VerdictLine[]
      return [
        `composition ${shortDigest(value['composition'] as Digest)}: public model${composed.map((e) => ` + ${e.institution}/${e.name}`).join('')}`,
        ...note(value),
        ...verdicts.map(verdictLine),
      ]
    }
    case 'generate': {
      const shares = value['experts'] as { institution: string; share: number }[]
      return [
        String(value['text']),
        '',
        shares.map((s) => `${s.institution} ${(100 * s.share).toFixed(0)} %`).join(', '),
      ]
    }
    default:
      return [JSON.stringify(result)]
  }
}
