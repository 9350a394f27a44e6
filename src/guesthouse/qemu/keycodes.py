"""Key codes of other systems as QEMU's key numbers.

The numbers are those of keymaps.csv in the keycodemapdb project (BSD licence), which QEMU and libvirt use, too.
"""

from __future__ import annotations

import functools

#: virKeycodeSet, as libvirt's messages name them.
CODESETS = ("linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum")

# a key: Linux' code in decimals, then in hexadecimals: AT set 1, 2 and 3, OS X, USB, Windows; "-" where it has none
_KEYS = """
1 1 76 8 35 29 1b; 2 2 16 16 12 1e 31; 3 3 1e 1e 13 1f 32; 4 4 26 26 14 20 33; 5 5 25 25 15 21 34
6 6 2e 2e 17 22 35; 7 7 36 36 16 23 36; 8 8 3d 3d 1a 24 37; 9 9 3e 3e 1c 25 38; 10 a 46 46 19 26 39
11 b 45 45 1d 27 30; 12 c 4e 4e 1b 2d bd; 13 d 55 55 18 2e bb; 14 e 66 66 33 2a 8; 15 f d d 30 2b 9
16 10 15 15 c 14 51; 17 11 1d 1d d 1a 57; 18 12 24 24 e 8 45; 19 13 2d 2d f 15 52; 20 14 2c 2c 11 17 54
21 15 35 35 10 1c 59; 22 16 3c 3c 20 18 55; 23 17 43 43 22 c 49; 24 18 44 44 1f 12 4f; 25 19 4d 4d 23 13 50
26 1a 54 54 21 2f db; 27 1b 5b 5b 1e 30 dd; 28 1c 5a 5a 24 28 d; 29 1d 14 11 3b e0 11; 30 1e 1c 1c 0 4 41
31 1f 1b 1b 1 16 53; 32 20 23 23 2 7 44; 33 21 2b 2b 3 9 46; 34 22 34 34 5 a 47; 35 23 33 33 4 b 48
36 24 3b 3b 26 d 4a; 37 25 42 42 28 e 4b; 38 26 4b 4b 25 f 4c; 39 27 4c 4c 29 33 ba; 40 28 52 52 27 34 de
41 29 e e 32 35 c0; 42 2a 12 12 38 e1 a0; 43 2b 5d 5c 2a 32 dc; 44 2c 1a 1a 6 1d 5a; 45 2d 22 22 7 1b 58
46 2e 21 21 8 6 43; 47 2f 2a 2a 9 19 56; 48 30 32 32 b 5 42; 49 31 31 31 2d 11 4e; 50 32 3a 3a 2e 10 4d
51 33 41 41 2b 36 bc; 52 34 49 49 2f 37 be; 53 35 4a 4a 2c 38 bf; 54 36 59 59 3c e5 a1; 55 37 7c 7e 43 55 6a
56 38 11 19 3a e2 12; 57 39 29 29 31 2c 20; 58 3a 58 14 39 39 14; 59 3b 5 7 7a 3a 70; 60 3c 6 f 78 3b 71
61 3d 4 17 63 3c 72; 62 3e c 1f 76 3d 73; 63 3f 3 27 60 3e 74; 64 40 b 2f 61 3f 75; 65 41 83 37 62 40 76
66 42 a 3f 64 41 77; 67 43 1 47 65 42 78; 68 44 9 4f 6d 43 79; 69 45 77 76 47 53 90; 70 46 7e 5f - 47 91
71 47 6c 6c 59 5f 67; 72 48 75 75 5b 60 68; 73 49 7d 7d 5c 61 69; 74 4a 7b 4e 4e 56 6d; 75 4b 6b 6b 56 5c 64
76 4c 73 73 57 5d 65; 77 4d 74 74 58 5e 66; 78 4e 79 7c 45 57 6b; 79 4f 69 69 53 59 61; 80 50 72 72 54 5a 62
81 51 7a 7a 55 5b 63; 82 52 70 70 52 62 60; 83 53 71 71 41 63 6e; 84 54 - - - - -; 85 76 5f - - 94 -
86 56 61 13 a 64 e2; 87 57 78 56 67 44 7a; 88 58 7 5e 6f 45 7b; 89 73 51 - 5e 87 e2; 90 78 63 - - 92 15
91 77 62 87 - 93 -; 92 79 64 86 - 8a 1c; 93 70 13 87 - 88 f2; 94 7b 67 85 - 8b 1d; 95 5c 27 - 5f 8c -
96 e01c e05a 79 4c 58 -; 97 e01d e014 58 3e e4 a3; 98 e035 e04a 4a 4b 54 6f; 99 54 7f 57 - 46 2c
100 e038 e011 39 3d e6 a5; 101 5b - - - - -; 102 e047 e06c 6e 73 4a 24; 103 e048 e075 63 7e 52 26
104 e049 e07d 6f 74 4b 21; 105 e04b e06b 61 7b 50 25; 106 e04d e074 6a 7c 4f 27; 107 e04f e069 65 77 4d 23
108 e050 e072 60 7d 51 28; 109 e051 e07a 6d 79 4e 22; 110 e052 e070 67 - 49 2d; 111 e053 e071 64 75 4c 2e
112 e06f e06f 8e - - -; 113 e020 e023 9c 4a ef ad; 114 e02e e021 9d 49 ee ae; 115 e030 e032 95 48 ed af
116 e05e e037 - - 66 -; 117 59 f - 51 67 -; 118 e04e e079 - - - -; 119 e046 e077 62 - 48 13; 120 e00b - - - - -
121 7e 6d - - 85 6c; 122 f2 f2 - 68 90 16; 123 f1 f1 - 66 91 1a; 124 7d 6a 5d 5d 89 dc
125 e05b e01f 8b 37 e3 5b; 126 e05c e027 8c 36 e7 5c; 127 e05d e02f 8d 6e 65 5d; 128 e068 e028 a - f3 a9
129 e005 - b - 79 -; 130 e006 - c - - -; 131 e007 - 10 - 7a -; 132 e00c - - - 77 -; 133 e078 - 18 - 7c -
134 64 - 20 - 74 -; 135 65 - 28 - 7d -; 136 e041 - 30 - f4 -; 137 e03c - 38 - 7b -; 138 e075 - 9 72 75 2f
139 e01e - 91 - 76 -; 140 e021 e02b a3 - fb -; 141 66 - - - - -; 142 e05f e03f - - f8 5f; 143 e063 e05e - - - -
144 67 - - - - -; 145 68 - - - - -; 146 69 - - - - -; 147 e013 - a2 - - -; 148 e01f - a0 - - -
149 e017 - a1 - - -; 150 e002 - - - f0 -; 151 6a - - - - -; 152 e012 - 96 - f9 -; 153 6b - - - - -
154 e026 - 9b - - -; 155 e06c e048 - - - -; 156 e066 e018 - - - -; 157 e06b e040 - - - -
158 e06a e038 - - f1 a6; 159 e069 e030 - - f2 a7; 160 e023 - 9a - - -; 161 6c - - - ec -; 162 e07d - - - - -
163 e019 e04d 93 - eb b0; 164 e022 e034 - - e8 b3; 165 e010 e015 94 - ea b1; 166 e024 e03b 98 - e9 b2
167 e031 - 9e - - -; 168 e018 - 9f - - -; 169 63 - - - - -; 171 e001 - - - - -; 172 e032 e03a 97 - - ac
173 e067 e020 - - fa a8; 176 e008 - - - f7 -; 177 75 - - - f5 -; 178 e00f - - - f6 -; 179 e076 - - - b6 -
180 e07b - - - b7 -; 181 e009 - - - - -; 182 e00a - - - - -; 183 5d 2f 7f 69 68 7c; 184 5e 37 80 6b 69 7d
185 5f 3f 81 71 6a 7e; 186 55 - 82 6a 6b 7f; 187 e003 - 83 40 6c 80; 188 e077 - - 4f 6d 81
189 e004 - - 50 6e 82; 190 5a - - 5a 6f 83; 191 74 - - - 70 84; 192 e079 - - - 71 85; 193 6d - - - 72 86
194 6f - - - 73 87; 195 e015 - - - - -; 196 e016 - - - - -; 197 e01a - - - - -; 198 e01b - - - - -
199 e027 - - - - -; 200 e028 - - - - -; 201 e029 - - - - -; 202 e02b - - - - -; 203 e02c - - - - -
204 e02d - - - - -; 205 e025 - - - - -; 206 e02f - - - - -; 207 e033 - - - - fa; 208 e034 - - - - -
209 e036 - - - - -; 210 e039 - - - - 2a; 211 e03a - - - - -; 212 e03b - - - - -; 213 e03d - - - - -
214 e03e - - - - -; 215 e03f - - - - b4; 216 e040 - - - - -; 217 e065 e010 - - - aa; 218 e042 - - - - -
219 e043 - - - - -; 220 e044 - - - - -; 221 e045 - - - - -; 222 e014 - - - - -; 223 e04a - - - - -
224 e04c - - - - -; 225 e054 - - - - -; 226 e06d e050 - - - -; 227 e056 - - - - -; 228 e057 - - - - -
229 e058 - - - - -; 230 e059 - - - - -; 231 e05a - - - - -; 232 e064 - - - - -; 233 e00e - - - - -
234 e055 - - - - -; 235 e070 - - - - -; 236 e071 - - - - -; 237 e072 - - - - -; 238 e073 - - - - -
239 e074 - - - - -
"""
# Korean keys, whose codes of set 1 have the high bit without being extended ones
_HANGEUL = (0xF1, 0xF2)
_COLUMNS = {"atset1": 1, "xt": 1, "atset2": 2, "atset3": 3, "os_x": 4, "usb": 5, "win32": 6}


def to_qnum(codeset: str, code: int) -> int | None:
    """QEMU's number of the key that ``codeset`` calls ``code``, None where it has no such key."""
    return code if codeset == "qnum" else _table(codeset).get(code)


@functools.cache
def _table(codeset: str) -> dict[int, int]:
    table: dict[int, int] = {}
    for key in _KEYS.strip().replace("\n", ";").split(";"):
        words = key.split()
        first = int(words[1], 16)
        if codeset == "linux":
            code = int(words[0])
        elif codeset == "xt_kbd":
            code = _extended(first, 0x100)
        elif (word := words[_COLUMNS[codeset]]) != "-":
            code = int(word, 16)
        else:
            continue
        table.setdefault(code, first & 0x7F if first in _HANGEUL else _extended(first, 0x80))
    return table


def _extended(code: int, mark: int) -> int:
    """A code of set 1 with ``mark`` in place of its prefix E0."""
    return mark | (code & 0x7F) if code > 0x7F and code not in _HANGEUL else code
