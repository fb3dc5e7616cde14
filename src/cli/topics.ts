/** Texts of `flexmesh help TOPIC`: what concerns several commands. Loaded when a topic is named. */
import { LOG_LEVELS, LOG_PARTS } from '../telemetry/log-levels.ts'
import type { Topic } from './help.ts'

const TEXTS: Readonly<Record<Topic, readonly string[]>> = {
  steps: [
    'From nothing to an answer. The founder begins with 1 to 4, every other institution with 1, 5 and 3.',
    '',
    '1. flexmesh init --institution NAME --passphrase-file FILE     a home folder and a key',
    '2. flexmesh consortium create --public-model DIR --name NAME --passphrase-file FILE',
    '3. flexmesh start --passphrase-file FILE                       the node, until Ctrl-C',
    '4. flexmesh invite                                             an invitation for one institution',
    '5. flexmesh join INVITATION --passphrase-file FILE             waits until members approve',
    '6. flexmesh approve                                            run by members',
    '7. flexmesh train --name NAME --data FOLDER                    an expert on own text',
    '8. flexmesh audit NAME; flexmesh publish NAME --domain WORDS   to all members',
    '9. flexmesh generate "..."                                     or the API, or flexmesh dashboard',
    '',
    '"flexmesh demo" shows all of it with three institutions on this machine.',
  ],
  configuration: [
    'Options of "start" and "train", and those of all commands, can also be in a file or in the environment.',
    'The command line comes first, then the environment, then the file, then the default.',
    '',
    'File         flexmesh.toml in the home folder, or what --config FILE or FLEXMESH_CONFIG names.',
    '             Options of all commands come first; those of a command are in its table:',
    '',
    '               passphrase-file = "/run/secrets/passphrase"   # relative to the folder of the file',
    '               [start]',
    '               port = 8080',
    '               listen = ["/ip4/0.0.0.0/tcp/4001"]',
    '               [train]',
    '               epsilon = 8',
    '',
    'Environment  FLEXMESH_START_PORT=8080, FLEXMESH_TRAIN_EPSILON=8, FLEXMESH_PASSPHRASE_FILE=...',
    '             Options without a value: true or false. Several values: with commas.',
    '             FLEXMESH_HOME names the home folder, FLEXMESH_UPSTREAM_API_KEY holds the key of an upstream.',
    '',
    '"flexmesh config" prints every option with its value and where it comes from.',
  ],
  logs: [
    '"flexmesh start" logs to standard error.',
    '',
    `--log-level   ${LOG_LEVELS.join(', ')}; also by part, as in info,network=debug`,
    `parts         ${LOG_PARTS.slice(0, 6).join(', ')},`,
    `              ${LOG_PARTS.slice(6).join(', ')}`,
    '--log-format  pretty, or json: one object per line with time, level, part, msg and, where they apply,',
    '              code and requestId (the X-Request-Id of a response of the API)',
    '',
    'No level shows prompts, answers, texts, keys, passphrases or losses on private text.',
  ],
  files: [
    'The home folder (--home, FLEXMESH_HOME, ~/.flexmesh) belongs to one node and one user.',
    '',
    'key.json            the secret key, encrypted with the passphrase',
    'settings.json       name and addresses of the node; commands write it',
    'flexmesh.toml       options, written by you: flexmesh help configuration',
    'version             version of the folder; newer programs upgrade it',
    'catalogue/          statements of all members, verdicts, invitations',
    'blobs/              public model and packages; members have them too',
    'public-model/       the public model as a folder that other programs read',
    'training/           private: text as tokens, checkpoints, trained experts: flexmesh data, forget, gc',
    'egress/             what has left this node: flexmesh egress',
    'api-key             key of the API; api-keys.json has digests of further keys',
    '',
    '"flexmesh backup FILE" writes what cannot be fetched again, encrypted.',
  ],
  'exit-codes': [
    '0    done',
    '1    refused or failed, with the reason on standard error; or less was done than asked',
    '2    wrong usage: an unknown command or option, or a value out of range',
    '130  interrupted, as by Ctrl-C',
    '',
    'With --json, the last line on standard output is one JSON object; messages stay on standard error.',
  ],
}

/** Lines of a topic. */
export function topicText(topic: Topic): readonly string[] {
  return TEXTS[topic]
}
