/** The commands, their options and their help; parsing of the command line. Knows no behaviour. */
import { parseArgs } from 'node:util'
import { InputError } from '../lib/errors.ts'

type OptionKind = { readonly type: 'string' | 'boolean'; readonly multiple?: true; readonly help: string }

export interface CommandSpec {
  readonly usage: string
  readonly summary: string
  readonly options: Readonly<Record<string, OptionKind>>
}

const text = (help: string): OptionKind => ({ type: 'string', help })
const flag = (help: string): OptionKind => ({ type: 'boolean', help })
const list = (help: string): OptionKind => ({ type: 'string', multiple: true, help })

/** As the help and `--router` name them. */
const ROUTER = text(
  'solved: a gate from router statistics; rows: what owners trained; auto (default): solved where all bring statistics',
)

const GLOBAL: Readonly<Record<string, OptionKind>> = {
  home: text('home folder (default: FLEXMESH_HOME, else ~/.flexmesh)'),
  json: flag('print one JSON object as the last line of stdout, nothing else'),
  'passphrase-file': text('file that holds the passphrase of the key'),
  engine: text('onnx (default), tensorflow or cpu'),
  device: text('cpu or cuda (default: cpu; --engine tensorflow: a GPU where there is one)'),
  threads: text('threads of the tensor engine (default: all)'),
  weights: text('fp32 (default), int8 or int4: weights in memory; a running node keeps its own'),
  help: flag('show this help'),
}

export const COMMANDS: Readonly<Record<string, CommandSpec>> = {
  demo: {
    usage: 'demo [--once]',
    summary: 'three institutions on this machine, the whole path, then serve',
    options: {
      once: flag('end instead of serving'),
      steps: text('training steps of each institution'),
      port: text('port of the API (default 8080)'),
    },
  },
  init: {
    usage: 'init --institution NAME',
    summary: 'make a key and a home folder',
    options: {
      institution: text('name under which this node asks to be a member'),
      listen: list('multiaddr to listen on (default /ip4/0.0.0.0/tcp/4001)'),
      'no-mdns': flag('do not look for members on the local network'),
      insecure: flag('keep the key in the clear'),
    },
  },
  'consortium create': {
    usage: 'consortium create --public-model DIR --name NAME [--replay FILE]',
    summary: 'found a consortium around a public model',
    options: {
      'public-model': text('Hugging Face Olmo2ForCausalLM folder, safetensors in one file or several'),
      name: text('name of the consortium'),
      replay: text('public text that owners train beside (default: replay.jsonl in the folder)'),
    },
  },
  invite: { usage: 'invite', summary: 'print one line that lets one institution join', options: {} },
  join: { usage: 'join INVITE', summary: 'join a consortium; waits until a founder approves', options: {} },
  members: { usage: 'members', summary: 'who is a member, who is connected, who waits', options: {} },
  approve: {
    usage: 'approve [INSTITUTION]',
    summary: 'put those who wait, or one of them, on the roster',
    options: {},
  },
  revoke: {
    usage: 'revoke INSTITUTION [--reason left|compromised|other]',
    summary: 'take a member off the roster',
    options: { reason: text('left, compromised or other (default)') },
  },
  train: {
    usage:
      'train --data PATH... --name NAME [--steps N] [--accumulate N] [--rank R] [--resume] [--export-pair DIR]',
    summary: 'train an expert on own text beside the public model, here or from an exported pair elsewhere',
    options: {
      data: list('file or folder of .txt, .md, .jsonl, .csv, .parquet'),
      name: text('name of the expert'),
      steps: text('training steps (default 200)'),
      accumulate: text('micro-batches a step: a larger batch in the same memory (default 1)'),
      rank: text(
        'train a difference of this rank from the public FFN: a smaller expert (default: a whole FFN)',
      ),
      resume: flag('go on with the text prepared before'),
      'export-pair': text('write the two-expert checkpoint to train elsewhere into a new folder, and stop'),
      'shard-size': text('megabytes of weights in one file of the pair (default 5000)'),
    },
  },
  'import-expert': {
    usage: 'import-expert DIR --name NAME',
    summary: 'take in an expert that was trained elsewhere, from a two-expert FlexOlmo checkpoint',
    options: { name: text('name of the expert; that of the exported pair if there was one') },
  },
  publish: {
    usage: 'publish NAME [--license SPDX] [--domain TEXT] [--rank R] [--router-statistics exact|noised|none]',
    summary: 'pack, sign and announce a trained expert',
    options: {
      license: text('SPDX expression'),
      domain: text('what the text is about'),
      dtype: text('BF16 (default), F16 or F32'),
      rank: text('cut the difference from the public FFN to this rank, and say what is left of it'),
      'router-statistics': text(
        'exact (default), noised or none: shares of tokens in the text that gates are solved from',
      ),
      noise: text('epsilon of noised router statistics, per document of them, as in 8; less hides more'),
    },
  },
  withdraw: { usage: 'withdraw NAME', summary: 'withdraw a published expert', options: {} },
  start: {
    usage: 'start [--port N] [--router auto|solved|rows] [--upstream URL --upstream-composition FILE]',
    summary: 'run the node: network, judging, inference API',
    options: {
      port: text('port of the API on 127.0.0.1 (default 8080, 0: any)'),
      router: ROUTER,
      upstream: text('OpenAI-compatible server that answers, as in http://127.0.0.1:8000/v1'),
      'upstream-composition': text('composition.json of the export that it serves'),
    },
  },
  experts: { usage: 'experts', summary: 'what is composed, and every verdict', options: {} },
  accept: { usage: 'accept PACKAGE', summary: 'judge a refused package again', options: {} },
  refuse: {
    usage: 'refuse PACKAGE',
    summary: 'leave an accepted package out of the composition',
    options: {},
  },
  compose: {
    usage:
      'compose [--include NAME...] [--exclude NAME...] [--top-k K] [--router auto|solved|rows] [--export DIR] [--export-onnx DIR]',
    summary: 'what a selection of experts composes, its digest, and a model folder of it',
    options: {
      include: list('only these experts'),
      exclude: list('never these experts'),
      'top-k': text('experts active for a token (default 4, at most all)'),
      router: ROUTER,
      export: text('new folder for a Hugging Face FlexOlmoForCausalLM model'),
      'export-onnx': text('new folder for the composition as one ONNX graph'),
      'shard-size': text('megabytes of weights in one file (default 5000)'),
      'drop-bias': flag('export experts with a router bias without it; it goes to a file beside'),
    },
  },
  evaluate: {
    usage:
      'evaluate [--data [NAME=]PATH...] [--name TRAINING] [--kilobytes N] [--router auto|solved|rows] [--opt-out] [--picture FILE.svg]',
    summary: 'bits per byte and routing on own text: public model, each expert, composition',
    options: {
      data: list('file or folder to score, one domain each (default: public held-out text only)'),
      name: text('training whose held-out text is scored'),
      router: ROUTER,
      kilobytes: text('text of each --data domain that is scored, from its beginning (default 128)'),
      'opt-out': flag('also the composition without each expert; --json has it always'),
      picture: text('write the routing of every domain by layer to an SVG file'),
    },
  },
  generate: {
    usage: 'generate "PROMPT"',
    summary: 'complete a prompt with the current composition',
    options: {
      'max-tokens': text('default 64'),
      include: list('only these experts'),
      exclude: list('never these experts'),
      temperature: text('default 0'),
    },
  },
  doctor: { usage: 'doctor', summary: 'what this machine offers and lacks', options: {} },
}

export interface Invocation {
  readonly command: string
  readonly positionals: readonly string[]
  readonly values: Readonly<Record<string, string | boolean | string[] | undefined>>
}

/** May be written with or without "consortium" before them. */
const CONSORTIUM_COMMANDS = ['invite', 'join', 'members', 'approve', 'revoke']

/** @throws InputError `usage`. */
export function parseCommandLine(argv: readonly string[]): Invocation {
  const [first, second = ''] = argv
  if (first === 'consortium' && CONSORTIUM_COMMANDS.includes(second)) return parseCommandLine(argv.slice(1))
  const command = first === 'consortium' ? `consortium ${second}`.trim() : (first ?? 'help')
  const spec = COMMANDS[command]
  if (spec === undefined) {
    if (command === 'help' || command === '--help' || command === '-h')
      return { command: 'help', positionals: [], values: {} }
    throw new InputError('usage', `unknown command "${command}"; "flexmesh help" lists them`)
  }
  const options = Object.fromEntries(
    Object.entries({ ...GLOBAL, ...spec.options }).map(([name, { type, multiple }]) => [
      name,
      { type, ...(multiple ? { multiple } : {}) },
    ]),
  )
  try {
    const { values, positionals } = parseArgs({
      args: argv.slice(command.includes(' ') ? 2 : 1) as string[],
      options,
      allowPositionals: true,
      strict: true,
    })
    return { command, positionals, values: values as Invocation['values'] }
  } catch (error) {
    throw new InputError(
      'usage',
      `${(error as Error).message}; "flexmesh ${command} --help" shows what it takes`,
      {},
      error,
    )
  }
}

export function helpText(command?: string): string[] {
  const spec = command === undefined ? undefined : COMMANDS[command]
  if (spec === undefined) {
    const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length))
    return [
      'flexmesh: build a mixture-of-experts language model together; text stays home',
      '',
      ...Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
      '',
      '"flexmesh COMMAND --help" shows the options of a command.',
    ]
  }
  const options = Object.entries({ ...spec.options, ...GLOBAL })
  const width = Math.max(...options.map(([name]) => name.length))
  return [
    `flexmesh ${spec.usage}`,
    '',
    spec.summary,
    '',
    ...options.map(([name, { help }]) => `  --${name.padEnd(width)}  ${help}`),
  ]
}
