"""A small formant synthesiser: speech-like sound from a string of phones, a voice and a manner of speaking.

After the source-filter model of speech (Fant, 1960) and its rules for synthesis (Klatt, 1980): a train of
glottal pulses with irregular periods and amplitudes, breath noise, and a friction noise of its own spectrum;
five resonances that glide from phone to phone. Resonances, spectral tilt and friction change every 4 ms and
are applied in the short-time Fourier domain, all frames at once.

What it says is no language, and nobody would take it for a person; but its pitch, rate, energy, voice quality
and formants are those of speech, and can be measured as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft

from graphophone.audio import pink_noise

RATE = 16000

_HOP = 64  # samples between frames: 4 ms
_WINDOW = 256  # the Hann window sums to a constant at this hop
_TRANSFORM = 1024  # leaves 48 ms for the resonances to die away before they wrap around
_FREQUENCY = np.fft.rfftfreq(_TRANSFORM, 1 / RATE).astype(np.float32)
_GLIDE = 15  # frames over which the articulators move from one phone to the next: 60 ms

# Resonances 1 to 3 in Hz, of a man (after the averages of Peterson and Barney, 1952).
_VOWELS = {
    "i": (270, 2290, 3010),
    "e": (480, 1900, 2550),
    "a": (730, 1180, 2440),
    "o": (530, 880, 2410),
    "u": (310, 900, 2240),
}
_HIGHER = (3500.0, 4500.0)
_BANDWIDTHS = np.array([70.0, 90.0, 130.0, 220.0, 300.0])


class _Segment(NamedTuple):
    """A piece of a phone during which nothing changes.

    Attributes:
        ms: Duration.
        voice: Amplitude of the glottal pulses.
        breath: Amplitude of the noise made at the glottis.
        friction: Amplitude of the noise made in the mouth.
        resonances: 1 to 3 in Hz; None takes those of the following vowel.
        colour: Centre and width of the friction noise in Hz.
        damping: Factor on the bandwidths of the resonances.
    """

    ms: float
    voice: float = 0.0
    breath: float = 0.0
    friction: float = 0.0
    resonances: tuple[float, float, float] | None = None
    colour: tuple[float, float] = (4000.0, 2000.0)
    damping: float = 1.0


_LIPS, _TONGUE, _VELUM = (300.0, 950.0, 2300.0), (320.0, 1700.0, 2650.0), (300.0, 1900.0, 2350.0)
_PHONES: dict[str, tuple[_Segment, ...]] = {
    **{v: (_Segment(95, voice=1.0, resonances=f),) for v, f in _VOWELS.items()},
    "m": (_Segment(65, voice=0.5, resonances=(260, 1100, 2200), damping=2.5),),
    "n": (_Segment(60, voice=0.5, resonances=(260, 1600, 2600), damping=2.5),),
    "l": (_Segment(60, voice=0.6, resonances=(360, 1200, 2700), damping=1.5),),
    "r": (_Segment(55, voice=0.6, resonances=(420, 1250, 1650), damping=1.5),),
    "w": (_Segment(60, voice=0.6, resonances=(300, 700, 2300), damping=1.3),),
    "j": (_Segment(60, voice=0.6, resonances=(280, 2200, 3000), damping=1.3),),
    "s": (_Segment(100, friction=0.30, resonances=_TONGUE, colour=(6000, 1500)),),
    "c": (_Segment(100, friction=0.36, resonances=(300, 1900, 2600), colour=(3300, 1000)),),
    "f": (_Segment(90, friction=0.10, resonances=_LIPS, colour=(4500, 4000)),),
    "h": (_Segment(60, breath=0.5),),
    "z": (_Segment(75, voice=0.35, friction=0.16, resonances=_TONGUE, colour=(6000, 1500), damping=1.5),),
    "v": (_Segment(60, voice=0.45, friction=0.06, resonances=_LIPS, colour=(4500, 4000), damping=1.5),),
    "p": (
        _Segment(65, resonances=_LIPS),
        _Segment(8, friction=0.25, resonances=_LIPS, colour=(1200, 1500)),
        _Segment(22, breath=0.35),
    ),
    "t": (
        _Segment(55, resonances=_TONGUE),
        _Segment(12, friction=0.40, resonances=_TONGUE, colour=(4500, 1800)),
        _Segment(25, breath=0.35),
    ),
    "k": (
        _Segment(60, resonances=_VELUM),
        _Segment(18, friction=0.40, resonances=_VELUM, colour=(2100, 700)),
        _Segment(30, breath=0.35),
    ),
    "b": (
        _Segment(55, voice=0.12, resonances=_LIPS, damping=3),
        _Segment(8, voice=0.3, friction=0.15, resonances=_LIPS, colour=(1000, 1500)),
    ),
    "d": (
        _Segment(50, voice=0.12, resonances=_TONGUE, damping=3),
        _Segment(8, voice=0.3, friction=0.20, resonances=_TONGUE, colour=(4000, 1800)),
    ),
    "g": (
        _Segment(50, voice=0.12, resonances=_VELUM, damping=3),
        _Segment(12, voice=0.3, friction=0.20, resonances=_VELUM, colour=(2000, 700)),
    ),
}
_PAUSE = 55.0  # ms between words, at the normal rate


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        pitch: Habitual fundamental frequency in Hz.
        tract: Factor on the resonances: 1 for a man's vocal tract of about 17.5 cm, 1.15 for a woman's.
        tilt: Slope added to the spectrum above 300 Hz, in dB per octave.
        rate: Factor on the speed of speaking.
        level: Level of the voice in dB.
        breath: Amplitude of the breath noise that accompanies the voice.
        noise: Level of the background noise of the recordings in dB below full scale.
    """

    pitch: float
    tract: float
    tilt: float
    rate: float
    level: float
    breath: float
    noise: float


@dataclass(frozen=True)
class Manner:
    """How an utterance is spoken, relative to the speaker's habit.

    Attributes:
        pitch: Shift of the fundamental frequency in semitones.
        accent: Height of the pitch accents in semitones.
        declination: Fall of the pitch from the beginning to the end, in semitones.
        final: Movement of the pitch over the last syllable, in semitones.
        rate: Factor on the speed of speaking.
        pause: Factor on the pauses between words.
        level: Level in dB.
        tilt: Slope added to the spectrum above 300 Hz, in dB per octave.
        open: Part of each period for which the glottis is open, 0.4 (pressed) to 0.9 (lax).
        breath: Amplitude added to the breath noise.
        jitter: Standard deviation of a period relative to its length.
        shimmer: Standard deviation of a pulse's amplitude relative to it.
        vowels: Factor on the distance of the vowels from the neutral one: above 1 is clear, below is slurred.
        tract: Factor on the resonances: above 1 for a smile.
    """

    pitch: float = 0.0
    accent: float = 3.0
    declination: float = 3.0
    final: float = -2.0
    rate: float = 1.0
    pause: float = 1.0
    level: float = 0.0
    tilt: float = 0.0
    open: float = 0.6
    breath: float = 0.0
    jitter: float = 0.008
    shimmer: float = 0.05
    vowels: float = 1.0
    tract: float = 1.0


class _Score(NamedTuple):
    """The segments of an utterance, in order.

    Attributes:
        seconds: `[segments]` durations.
        voice: `[segments]` amplitudes; so are ``breath`` and ``friction``.
        breath: See ``voice``.
        friction: See ``voice``.
        resonances: `[segments, 5]` Hz.
        colour: `[segments, 2]` Hz.
        damping: `[segments]` factors.
        accents: `[accents]` times of the stressed vowels in seconds.
        last: Time of the last vowel in seconds.
    """

    seconds: np.ndarray
    voice: np.ndarray
    breath: np.ndarray
    friction: np.ndarray
    resonances: np.ndarray
    colour: np.ndarray
    damping: np.ndarray
    accents: np.ndarray
    last: float


def synthesize(text: str, voice: Voice, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """Speak a text.

    Args:
        text: Words of phones, one letter each: the vowels ``aeiou``, an upper-case vowel being stressed, and
            the consonants ``mnlrwjscfhzvptkbdg`` (``c`` as in German "ich", ``j`` as in "yes").
        voice: Who speaks.
        manner: How.
        rng: Source of every irregularity: durations, jitter, shimmer, noise.

    Returns:
        `[samples]` float32 at 16 kHz, within [-1, 1]; a speaker of level 0 in a manner of level 0 has 26 dB
        below full scale while there is sound.

    Raises:
        ValueError: If the text holds a letter that is no phone, or no vowel at all.
    """
    score = _score(text, manner, voice.rate * manner.rate, rng)
    total = float(score.seconds.sum())
    samples = round(total * RATE)
    frames = 1 + -(-samples // _HOP)
    at = np.minimum(
        np.searchsorted(np.cumsum(score.seconds), np.arange(frames) * _HOP / RATE, side="right"),
        len(score.seconds) - 1,
    )
    quick = _smooth(np.stack([score.voice, score.breath, score.friction], 1)[at], 5)
    slow = _smooth(np.concatenate([score.resonances, score.damping[:, None]], 1)[at], _GLIDE)
    colour = score.colour[at]

    moment = np.arange(samples) / RATE
    frame_time = np.arange(frames) * _HOP / RATE
    pitch = np.interp(moment, frame_time, _pitch(score, voice, manner, frame_time, rng))
    pulses = _pulses(pitch, manner, rng) * np.interp(moment, frame_time, quick[:, 0])
    breath = (voice.breath + manner.breath) * quick[:, 0] + quick[:, 1]
    source = pulses + 0.25 * np.interp(moment, frame_time, breath) * rng.standard_normal(samples)
    friction = np.interp(moment, frame_time, quick[:, 2]) * rng.standard_normal(samples)

    tract = voice.tract * manner.tract
    response = _resonance_response(slow[:, :5] * tract, _BANDWIDTHS * slow[:, 5:])
    response *= _tilt_response(voice.tilt + manner.tilt)
    spectrum = _transform(source, frames) * response
    spectrum += _transform(friction, frames) * _friction_response(colour, tract)
    speech = _inverse(spectrum, samples)

    audible = np.interp(moment, frame_time, quick.max(axis=1)) > 0.3
    level = 10 ** ((voice.level + manner.level - 28) / 20)
    speech *= level / np.sqrt(np.mean(np.square(speech[audible])))
    speech += 10 ** (voice.noise / 20) * pink_noise(samples, rng)
    return (speech * min(1.0, 0.97 / float(np.abs(speech).max()))).astype(np.float32)


def _score(text: str, manner: Manner, rate: float, rng: np.random.Generator) -> _Score:
    unknown = set(text.lower()) - set(_PHONES) - {" "}
    if unknown or not set(text.lower()) & set(_VOWELS):
        raise ValueError(f"{text!r} cannot be spoken: give words of the phones {''.join(_PHONES)}, with a vowel")
    segments: list[_Segment] = [_Segment(float(rng.uniform(90, 220)) * rate)]  # silence, not spoken at any rate
    stressed: list[int] = []
    vowels: list[int] = []
    for number, word in enumerate(text.split()):
        if number:
            segments.append(_Segment(_PAUSE * manner.pause * float(rng.lognormal(0, 0.35))))
        for letter in word:
            phone = _PHONES[letter.lower()]
            if letter.lower() in _VOWELS:
                vowels.append(len(segments))
                if letter.isupper():
                    stressed.append(len(segments))
                    phone = (phone[0]._replace(ms=phone[0].ms * 1.35),)
            segments.extend(phone)
    segments[vowels[-1]] = segments[vowels[-1]]._replace(ms=segments[vowels[-1]].ms * 1.4)
    segments.append(_Segment(float(rng.uniform(90, 220)) * rate))

    seconds = np.array([s.ms for s in segments]) / 1000 / rate
    seconds[1:-1] *= rng.lognormal(0, 0.1, len(segments) - 2)
    middles = np.cumsum(seconds) - seconds / 2
    neutral = np.array([500.0, 1500.0, 2500.0])
    resonances = np.empty((len(segments), 5))
    resonances[:, 3:] = _HIGHER
    following = neutral
    for index in reversed(range(len(segments))):
        if segments[index].resonances is not None:
            following = neutral + manner.vowels * (np.array(segments[index].resonances) - neutral)
        resonances[index, :3] = following
    resonances[:, :3] *= rng.lognormal(0, 0.03, (len(segments), 3))
    return _Score(
        seconds=seconds,
        voice=np.array([s.voice for s in segments]),
        breath=np.array([s.breath for s in segments]),
        friction=np.array([s.friction for s in segments]),
        resonances=resonances,
        colour=np.array([s.colour for s in segments]),
        damping=np.array([s.damping for s in segments]),
        accents=middles[np.array(stressed, dtype=int)],
        last=float(middles[vowels[-1]]),
    )


def _smooth(tracks: np.ndarray, frames: int) -> np.ndarray:
    """Moving Hann average over `[frames, tracks]`; an odd number of frames."""
    window = np.hanning(frames + 2)[1:-1]
    padded = np.pad(tracks, ((frames // 2, frames // 2), (0, 0)), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)
    return views @ (window / window.sum())


def _pitch(score: _Score, voice: Voice, manner: Manner, moment: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fundamental frequency in Hz at each moment: a falling line, a bump on each stressed vowel, a final movement."""
    total = moment[-1]
    semitones = manner.pitch + manner.declination * (0.5 - moment / total)
    heights = manner.accent * rng.lognormal(0, 0.25, len(score.accents))
    delays = rng.normal(0, 0.015, len(score.accents))
    offsets = (moment[:, None] - score.accents - delays) / 0.075
    semitones += np.exp(-0.5 * offsets**2) @ heights
    semitones += manner.final / (1 + np.exp(-(moment - score.last) / 0.04))
    steps = np.arange(0, total + 0.1, 0.05)  # slow drift
    semitones += np.interp(moment, steps, rng.normal(0, 0.3, len(steps)))
    return np.clip(voice.pitch * 2 ** (semitones / 12), 65, 420)


def _pulses(pitch: np.ndarray, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """`[samples]` derivative of Rosenberg's glottal pulses, each of its own length and height."""
    phase = np.cumsum(pitch / RATE)
    cycles = int(phase[-1]) + 2
    # Move the moment of each closure: a period is as long as the pitch says, times 1 + jitter * noise.
    closures = np.interp(np.arange(cycles), phase, np.arange(len(phase)))
    periods = np.diff(closures, append=len(phase)) * (1 + manner.jitter * rng.standard_normal(cycles))
    moved = np.concatenate([[0.0], np.cumsum(np.maximum(periods, 8))])
    phase = np.interp(np.arange(len(phase)), moved, np.arange(len(moved)))
    cycle = phase.astype(int)
    phase -= cycle
    opening = 0.65 * manner.open
    rise = 0.5 * (1 - np.cos(np.pi * phase / opening))
    fall = np.cos(0.5 * np.pi * (phase - opening) / (manner.open - opening))
    flow = np.where(phase < opening, rise, np.where(phase < manner.open, fall, 0.0))
    flow *= np.maximum(0.2, 1 + manner.shimmer * rng.standard_normal(cycles + 2))[cycle]
    return 8 * np.diff(flow, prepend=0.0)


def _resonance_response(centres: np.ndarray, bandwidths: np.ndarray) -> np.ndarray:
    """`[frames, bins]` response of resonators in a row, `[frames, resonators]` Hz each; 1 at 0 Hz."""
    back = np.exp(-2j * np.pi * _FREQUENCY / RATE).astype(np.complex64)
    square = back**2
    radius = np.exp(-np.pi * bandwidths / RATE)
    first = (-2 * radius * np.cos(2 * np.pi * np.minimum(centres, 0.48 * RATE) / RATE)).astype(np.float32)
    second = (radius**2).astype(np.float32)
    product = np.multiply.outer(1 / np.prod(1 + first + second, axis=1).astype(np.float32), np.ones_like(back))
    for k in range(centres.shape[1]):
        product *= 1 + first[:, k, None] * back + second[:, k, None] * square
    return np.reciprocal(product, out=product)


def _tilt_response(slope: float) -> np.ndarray:
    octaves = np.log2(np.maximum(_FREQUENCY, 300) / 300)
    return (10 ** (slope * octaves / 20)).astype(np.float32)


def _friction_response(colour: np.ndarray, tract: float) -> np.ndarray:
    """`[frames, bins]`: a bell around the centre, of unit power for white noise."""
    centre, width = (np.minimum(colour * [tract, 1], 7000)[:, i, None].astype(np.float32) for i in (0, 1))
    bell = np.exp(-0.5 * np.square((_FREQUENCY - centre) / width))
    return bell / np.sqrt(np.mean(np.square(bell), axis=1, keepdims=True))


def _transform(signal: np.ndarray, frames: int) -> np.ndarray:
    """`[frames, bins]` spectra of Hann-windowed pieces, centred on the frames."""
    padded = np.zeros(frames * _HOP + _WINDOW, np.float32)
    padded[_WINDOW // 2 : _WINDOW // 2 + len(signal)] = signal
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: frames * _HOP : _HOP]
    window = (np.hanning(_WINDOW + 1)[:-1] * 2 * _HOP / _WINDOW).astype(np.float32)
    return scipy.fft.rfft(pieces * window, _TRANSFORM, axis=1)


def _inverse(spectra: np.ndarray, samples: int) -> np.ndarray:
    """`[samples]`: the sum of the filtered pieces, each in its place."""
    frames = len(spectra)
    parts = scipy.fft.irfft(spectra, _TRANSFORM, axis=1).reshape(frames, _TRANSFORM // _HOP, _HOP)
    total = np.zeros((frames + _TRANSFORM // _HOP, _HOP))
    for shift in range(_TRANSFORM // _HOP):
        total[shift : shift + frames] += parts[:, shift]
    return total.ravel()[_WINDOW // 2 : _WINDOW // 2 + samples]
