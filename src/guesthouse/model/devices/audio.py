"""<audio> and <sound>: the host's sound systems, and the guest's sound cards."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias
from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Element, Int, Positive, UInt

TYPES = ("none", "alsa", "coreaudio", "jack", "oss", "pulseaudio", "sdl", "spice", "file", "dbus")


class AudioSettings(Element, tag="settings"):
    frequency: int | None = Attr("frequency", UInt)
    channels: int | None = Attr("channels", UInt)
    format: str | None = Attr("format", Choice("u8", "s8", "u16", "s16", "u32", "s32", "f32"))


class AudioDirection(Element):
    """Recording or playing: what every sound system can be told, then what some can. Lengths are microseconds."""

    mixing_engine: bool | None = Attr("mixingEngine", Bool)
    fixed_settings: bool | None = Attr("fixedSettings", Bool)
    voices: int | None = Attr("voices", UInt)
    buffer_length: int | None = Attr("bufferLength", UInt)
    dev: str | None = Attr("dev")
    name: str | None = Attr("name")
    stream_name: str | None = Attr("streamName")
    latency: int | None = Attr("latency", UInt)
    server_name: str | None = Attr("serverName")
    client_name: str | None = Attr("clientName")
    connect_ports: str | None = Attr("connectPorts")
    exact_name: bool | None = Attr("exactName", Bool)
    buffer_count: int | None = Attr("bufferCount", UInt)
    try_poll: bool | None = Attr("tryPoll", Bool)
    settings: AudioSettings | None = Child(AudioSettings)


class AudioInput(AudioDirection, tag="input"):
    pass


class AudioOutput(AudioDirection, tag="output"):
    pass


class Audio(Element, tag="audio"):
    """A host's sound system; which attributes count depends on ``type``."""

    id: int | None = Attr("id", Positive)
    type: str | None = Attr("type", Choice(*TYPES))
    timer_period: int | None = Attr("timerPeriod", UInt)
    try_mmap: bool | None = Attr("tryMMap", Bool)
    exclusive: bool | None = Attr("exclusive", Bool)
    dsp_policy: int | None = Attr("dspPolicy", Int)
    server_name: str | None = Attr("serverName")
    driver: str | None = Attr("driver", Choice("esd", "alsa", "arts", "pulseaudio"))
    path: str | None = Attr("path")
    input: AudioInput | None = Child(AudioInput)
    output: AudioOutput | None = Child(AudioOutput)


class Codec(Element, tag="codec"):
    type: str | None = Attr("type", Choice("duplex", "micro", "output"))


class SoundAudio(Element, tag="audio"):
    """Which of the host's sound systems."""

    id: int | None = Attr("id", Positive)


class Sound(Element, tag="sound"):
    """A sound card."""

    model: str | None = Attr("model", required=True)
    streams: int | None = Attr("streams", UInt)
    codecs: list[Codec] = Children(Codec)
    audio: SoundAudio | None = Child(SoundAudio)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
