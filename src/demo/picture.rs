//! Draws a landscape from a prompt: the same words give the same picture. Ridges of hills fade into the
//! distance under a sun; the palette, the ridges and the sun all come from the prompt's hash. No model,
//! no claim to be one.

/// A PNG of `prompt`.
pub fn draw(prompt: &str) -> Result<Vec<u8>, png::EncodingError> {
    let scene = Scene::of(prompt);
    let mut pixels = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            pixels.extend(scene.color(x as f32, y as f32).map(|part| part as u8));
        }
    }
    let mut image = Vec::new();
    let mut encoder = png::Encoder::new(&mut image, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(image)
}

/// Everything that the prompt's hash decides.
struct Scene {
    sky: [Color; 2],
    sun: (f32, f32, f32),
    sun_color: Color,
    ridges: Vec<Ridge>,
}

/// One line of hills, in front of those before it.
struct Ridge {
    base: f32,
    waves: [(f32, f32, f32); 4],
    color: Color,
}

/// Red, green, blue: 0 to 255.
type Color = [f32; 3];

impl Scene {
    fn of(prompt: &str) -> Self {
        let mut dice = Dice::of(prompt);
        let hue = dice.roll(0.0, 360.0);
        let warm = hue + dice.roll(130.0, 230.0);
        let sky = [hsl(hue, 0.55, 0.34), hsl(warm, 0.75, 0.80)];
        let count = 5;
        let ridges = (0..count)
            .map(|at| {
                let near = at as f32 / (count - 1) as f32;
                Ridge {
                    base: 0.48 + 0.42 * near + dice.roll(-0.03, 0.03),
                    waves: std::array::from_fn(|octave| {
                        let scale = 2.0_f32.powi(octave as i32);
                        (
                            dice.roll(0.006, 0.010) * scale,
                            dice.roll(0.0, std::f32::consts::TAU),
                            dice.roll(0.030, 0.055) / scale,
                        )
                    }),
                    color: mix(
                        mix(sky[1], hsl(hue, 0.35, 0.45), 0.45),
                        hsl(hue, 0.45, 0.10),
                        near,
                    ),
                }
            })
            .collect();
        Self {
            sky,
            sun: (
                dice.roll(0.2, 0.8) * WIDTH as f32,
                dice.roll(0.22, 0.42) * HEIGHT as f32,
                dice.roll(22.0, 40.0),
            ),
            sun_color: hsl(warm + 15.0, 0.95, 0.92),
            ridges,
        }
    }

    fn color(&self, x: f32, y: f32) -> Color {
        let mut color = mix(self.sky[0], self.sky[1], (y / HEIGHT as f32 * 1.7).min(1.0));
        let (sun_x, sun_y, radius) = self.sun;
        let distance = (x - sun_x).hypot(y - sun_y);
        let glow = (1.0 - distance / (radius * 4.0)).max(0.0);
        color = mix(color, self.sun_color, glow * glow * 0.55);
        color = mix(color, self.sun_color, (radius - distance).clamp(0.0, 1.0));
        for ridge in &self.ridges {
            // The part of this pixel below the ridge's line: soft edges without a second sample.
            let below = (y - ridge.height(x)).clamp(0.0, 1.0);
            color = mix(color, ridge.color, below);
        }
        color
    }
}

impl Ridge {
    fn height(&self, x: f32) -> f32 {
        let waves: f32 = self
            .waves
            .iter()
            .map(|(frequency, phase, height)| (x * frequency + phase).sin() * height)
            .sum();
        (self.base + waves) * HEIGHT as f32
    }
}

/// Numbers that follow from the prompt alone (FNV-1a, then splitmix64).
struct Dice(u64);

impl Dice {
    fn of(prompt: &str) -> Self {
        Self(
            prompt
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                }),
        )
    }

    fn roll(&mut self, low: f32, high: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        low + (high - low) * ((mixed >> 40) as f32 / (1_u64 << 24) as f32)
    }
}

fn mix(from: Color, to: Color, share: f32) -> Color {
    std::array::from_fn(|at| from[at] + (to[at] - from[at]) * share)
}

/// Hue in degrees, saturation and lightness 0 to 1.
fn hsl(hue: f32, saturation: f32, lightness: f32) -> Color {
    let reach = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|offset| {
        let place = (offset + hue.rem_euclid(360.0) / 30.0) % 12.0;
        255.0 * (lightness - reach * (place - 3.0).min(9.0 - place).clamp(-1.0, 1.0))
    })
}

const WIDTH: u32 = 480;
const HEIGHT: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_prompt_gives_the_same_picture_and_another_another() {
        assert_eq!(draw("hills").unwrap(), draw("hills").unwrap());
        assert_ne!(draw("hills").unwrap(), draw("Hills").unwrap());
    }

    #[test]
    fn a_picture_is_a_png_that_fits_one_event() {
        for prompt in ["a", "a quiet lake at dawn", "安静的湖", "x"] {
            let image = draw(prompt).unwrap();
            assert!(image.starts_with(b"\x89PNG\r\n\x1a\n"));
            assert!(image.len() < 48 * 1024, "{prompt}: {} bytes", image.len());
        }
    }
}
