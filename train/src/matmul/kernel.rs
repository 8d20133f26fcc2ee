//! The product itself, over raw memory: blocks of the inner dimension, panels of columns, tiles of rows.
//!
//! ```text
//! for a block of the inner dimension      left's part of it stays in the second-level cache, in tiles if it is transposed
//!   for a panel of columns                two registers wide, copied together unless its rows lie close: first-level cache
//!     for a tile of rows                  its sums stay in registers over the whole block
//! ```
//! A number of a block's product is one chain of [`Vector::plus_product`] from 0; the blocks' are added in order, which
//! loses less to rounding than one long chain. Neither depends on how rows and columns are cut.
#![allow(unsafe_code, reason = "kernels over raw memory, called from `product` alone, which checks every size")]

use std::{cell::Cell, hint::black_box, mem::MaybeUninit};

use super::vector::{SQUARE, Vector};

/// Most of the inner dimension that is gone through at a time. It is part of what a product means.
pub(super) const INNER_MAX: usize = 256;
/// Columns of the widest panel: two AVX-512 registers.
const PANEL_MAX: usize = 32;
/// Rows of the tallest tile.
const TILE_MAX: usize = 12;
/// Rows of the right side that are no further apart are read where they are: a panel's then hit different cache sets.
const CLOSE: usize = 128;
/// A transposed left side of this inner dimension or more is copied into tiles where there are this many columns: else its
/// lines are read again for every panel, and of each only as many numbers as a tile has rows.
const TILED_INNER: usize = 64;
const TILED_COLUMNS: usize = 128;

thread_local! {
    /// Room for a block of the left side, kept so that products allocate nothing after the first.
    static TILES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Element (row, column) is at `row * row_stride + column * column_stride`; one of the strides is 1.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub data: *const f32,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl Side {
    #[inline(always)]
    pub(super) fn at(self, row: usize, column: usize) -> *const f32 {
        self.data.wrapping_add(row * self.row_stride + column * self.column_stride)
    }

    #[inline(always)]
    pub(super) fn from(self, row: usize, column: usize) -> Side {
        Side { data: self.at(row, column), ..self }
    }
}

/// The right side of a product.
#[derive(Clone, Copy)]
pub(super) enum Right {
    Plain(Side),
    /// What [`pack`] made of it.
    Packed(*const f32),
}

/// `out = left * right`, or `out += left * right` where it `adds`; `out` is row-major without gaps.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    pub left: Side,
    pub right: Right,
    pub out: *mut f32,
    pub adds: bool,
}

/// The kernel for one set of instructions.
macro_rules! compiled {
    ($name:ident, $vector:ty, $tile:expr $(, $features:literal)?) => {
        pub(super) mod $name {
            use super::{Product, Side, Vector};

            pub const LANES: usize = <$vector>::LANES;

            /// # Safety
            /// Every element of both sides can be read (of a packed one, [`super::packed_len`]) and every one of `out` be
            /// written, `out` overlaps neither side, and the processor has these instructions.
            $(#[target_feature(enable = $features)])?
            pub unsafe fn multiply(product: &Product) {
                // SAFETY: the caller's promise.
                unsafe { super::multiply::<$vector, { $tile }>(product) }
            }

            /// # Safety
            /// As for [`super::pack`].
            $(#[target_feature(enable = $features)])?
            pub unsafe fn pack(right: Side, inner: usize, columns: usize, to: *mut f32) {
                // SAFETY: the caller's promise.
                unsafe { super::pack::<$vector>(right, inner, columns, to) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx512, std::arch::x86_64::__m512, super::TILE_MAX, "avx512f");
#[cfg(target_arch = "x86_64")]
compiled!(fma, std::arch::x86_64::__m256, 6, "avx2,fma");
compiled!(portable, super::super::vector::Portable, 6);

/// Where a block of `inner` begins and ends, of `blocks` of nearly equal length.
#[inline(always)]
pub(super) fn block_of(inner: usize, block: usize, blocks: usize) -> [usize; 2] {
    [block, block + 1].map(|block| inner * block / blocks)
}

/// Numbers of a packed right side: panels are filled up with zeros.
pub(super) fn packed_len(inner: usize, columns: usize, lanes: usize) -> usize {
    inner * columns.next_multiple_of(2 * lanes)
}

/// A panel of the right side with its columns next to each other.
#[repr(align(64))]
struct Panel([MaybeUninit<f32>; INNER_MAX * PANEL_MAX]);

/// # Safety
/// As for [`avx512`], with the instructions of `V`.
#[inline(always)]
unsafe fn multiply<V: Vector, const TILE: usize>(product: &Product) {
    let mut room = Panel([MaybeUninit::uninit(); INNER_MAX * PANEL_MAX]);
    let room = room.0.as_mut_ptr().cast::<f32>();
    let &Product { rows, inner, columns, .. } = product;
    let wide = 2 * V::LANES;
    let blocks = inner.div_ceil(INNER_MAX).max(1);
    let is_tiled = product.left.column_stride != 1 && inner >= TILED_INNER && columns >= TILED_COLUMNS;
    let mut tiles = if is_tiled { TILES.take() } else { Vec::new() };
    for block in 0..blocks {
        let [from, to] = block_of(inner, block, blocks);
        let left = product.left.from(0, from);
        let part = Product { inner: to - from, left, adds: product.adds || block > 0, ..*product };
        if is_tiled {
            tiles.resize(tiles.len().max(rows * (to - from)), 0.0);
            // SAFETY: the block is within the left side, and there is room for it.
            unsafe { tile_left::<TILE>(left, rows, to - from, tiles.as_mut_ptr()) };
        }
        let tiles = is_tiled.then_some(tiles.as_ptr());
        for column in (0..columns).step_by(wide) {
            let here = wide.min(columns - column);
            let (panel, stride) = match part.right {
                Right::Packed(panels) => {
                    let before = packed_len(from, columns, V::LANES) + (to - from) * column;
                    (panels.wrapping_add(before), wide)
                }
                Right::Plain(side) => {
                    let side = side.from(from, column);
                    let is_close = side.row_stride <= CLOSE || rows <= TILE;
                    if here == wide && side.column_stride == 1 && is_close {
                        (side.data, side.row_stride)
                    } else {
                        // SAFETY: the panel is within the right side, and there is room for a block of the widest.
                        unsafe { pack_panel::<V>(side, to - from, here, room) };
                        (room.cast_const(), wide)
                    }
                }
            };
            // SAFETY: the block and the panel are within the product.
            unsafe { panel_product::<V, TILE>(&part, tiles, column, here, panel, stride) };
        }
    }
    if is_tiled {
        TILES.set(tiles);
    }
}

/// Copies a transposed left side tile by tile, the numbers that a step of a tile's sums needs next to each other.
///
/// # Safety
/// Every element of `rows` by `inner` can be read, rows are next to each other, and as many numbers be written to `to`;
/// `inner` is `TILE` or more.
#[inline(always)]
unsafe fn tile_left<const TILE: usize>(left: Side, rows: usize, inner: usize, to: *mut f32) {
    let tiles = rows.div_ceil(TILE);
    for tile in 0..tiles {
        let [from, until] = block_of(rows, tile, tiles);
        for at in 0..inner {
            let (source, to) = (left.at(from, at), to.wrapping_add(from * inner + at * (until - from)));
            // SAFETY: the caller's promise; a tile's numbers come after those of the rows before it. Where a whole tile's
            // are copied for a lower one, those too many are of rows that follow, in places that are written after it.
            unsafe {
                if from + TILE <= rows {
                    to.cast::<[f32; TILE]>().write_unaligned(source.cast::<[f32; TILE]>().read_unaligned());
                } else {
                    (0..until - from).for_each(|row| *to.add(row) = *source.add(row));
                }
            }
        }
    }
}

/// The right side as its panels, block by block.
///
/// # Safety
/// Every element of `right` can be read, [`packed_len`] numbers be written to `to`, and the processor has `V`.
#[inline(always)]
unsafe fn pack<V: Vector>(right: Side, inner: usize, columns: usize, to: *mut f32) {
    let wide = 2 * V::LANES;
    let blocks = inner.div_ceil(INNER_MAX).max(1);
    for block in 0..blocks {
        let [from, until] = block_of(inner, block, blocks);
        for column in (0..columns).step_by(wide) {
            let before = packed_len(from, columns, V::LANES) + (until - from) * column;
            // SAFETY: the panel is within the right side, its place within the packed one.
            unsafe {
                pack_panel::<V>(right.from(from, column), until - from, wide.min(columns - column), to.add(before));
            };
        }
    }
}

/// Copies the first `here` columns next to each other; what is missing to a panel becomes 0.
///
/// # Safety
/// `inner` rows of `here` columns can be read, and as many whole rows of a panel be written.
#[inline(always)]
unsafe fn pack_panel<V: Vector>(right: Side, inner: usize, here: usize, panel: *mut f32) {
    let wide = 2 * V::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        if here == wide && right.column_stride == 1 {
            for row in 0..inner {
                let (from, to) = (right.at(row, 0), panel.add(row * wide));
                V::load(from).store(to);
                V::load(from.add(V::LANES)).store(to.add(V::LANES));
            }
            return;
        }
        if here < wide {
            panel.write_bytes(0, inner * wide);
        }
        let squares = if right.row_stride == 1 { [inner, here].map(|side| side / SQUARE * SQUARE) } else { [0; 2] };
        for column in (0..squares[1]).step_by(SQUARE) {
            for row in (0..squares[0]).step_by(SQUARE) {
                V::transpose(right.at(row, column), right.column_stride, panel.add(row * wide + column), wide);
            }
        }
        for column in 0..here {
            for row in if column < squares[1] { squares[0] } else { 0 }..inner {
                *panel.add(row * wide + column) = *right.at(row, column);
            }
        }
    }
}

/// The columns from `column` on, `here` of them, which are in a panel.
///
/// # Safety
/// As for [`multiply`]; `inner` rows of a whole panel can be read, and of `tiled` what [`tile_left`] wrote.
#[inline(always)]
unsafe fn panel_product<V: Vector, const TILE: usize>(
    product: &Product,
    tiled: Option<*const f32>,
    column: usize,
    here: usize,
    panel: *const f32,
    panel_stride: usize,
) {
    let &Product { rows, inner, columns, left, out, adds, .. } = product;
    let wide = 2 * V::LANES;
    let is_whole = here == wide;
    // Of the last panel, which may be narrower than its registers. Only what a tile wrote is read.
    let mut edge = MaybeUninit::<[f32; TILE_MAX * PANEL_MAX]>::uninit();
    let edge = edge.as_mut_ptr().cast::<f32>();
    let tiles = rows.div_ceil(TILE);
    for at in 0..tiles {
        let [from, to] = block_of(rows, at, tiles);
        let place = out.wrapping_add(from * columns + column);
        let (sums, stride) = if is_whole { (place, columns) } else { (edge, wide) };
        let left = match tiled {
            Some(tiles) => Side { data: tiles.wrapping_add(from * inner), row_stride: 1, column_stride: to - from },
            None => left.from(from, 0),
        };
        let tile = Tile { inner, left, panel, panel_stride, sums, stride, adds };
        // SAFETY: the tile's rows and columns are within the product, or within `edge`, which has room for any tile.
        unsafe {
            for row in (0..to - from).filter(|_| adds && !is_whole) {
                sums.add(row * stride).write_bytes(0, wide);
                sums.add(row * stride).copy_from_nonoverlapping(place.add(row * columns), here);
            }
            tile_of_rows::<V, TILE>(to - from, &tile);
            for row in (0..to - from).filter(|_| !is_whole) {
                place.add(row * columns).copy_from_nonoverlapping(sums.add(row * stride), here);
            }
        }
    }
}

/// A few rows of a panel's product.
struct Tile {
    inner: usize,
    left: Side,
    panel: *const f32,
    panel_stride: usize,
    sums: *mut f32,
    stride: usize,
    adds: bool,
}

/// # Safety
/// As for [`tile_of`], with `rows` of at most `TILE`.
#[inline(always)]
unsafe fn tile_of_rows<V: Vector, const TILE: usize>(rows: usize, tile: &Tile) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: the caller's promise.
                $($rows if $rows <= TILE => unsafe { tile_of::<V, $rows>(tile) },)*
                _ => {}
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// # Safety
/// `ROWS` rows of `left` and `inner` rows of the panel can be read, `ROWS` rows of `sums` be read and written.
#[inline(always)]
unsafe fn tile_of<V: Vector, const ROWS: usize>(tile: &Tile) {
    let &Tile { left, sums: place, stride, adds, .. } = tile;
    let mut sums = [[V::splat(0.0); 2]; ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        if left.column_stride == 1 {
            // Hidden from the compiler, or it computes each row's place anew at every step.
            let rows: [*const f32; ROWS] = std::array::from_fn(|row| black_box(left.at(row, 0)));
            add_up(&mut sums, tile, |row, at| rows[row].add(at));
        } else {
            add_up(&mut sums, tile, |row, at| left.at(0, at).add(row));
        }
        for (row, sums) in sums.iter().enumerate() {
            let to = place.add(row * stride);
            for (at, sum) in sums.iter().enumerate() {
                let to = to.add(at * V::LANES);
                let whole = if adds { V::load(to).plus(*sum) } else { *sum };
                whole.store(to);
            }
        }
    }
}

/// The chain itself. `value` says where the left side's element is.
///
/// # Safety
/// As for [`tile_of`].
#[inline(always)]
unsafe fn add_up<V: Vector, const ROWS: usize>(
    sums: &mut [[V; 2]; ROWS],
    tile: &Tile,
    value: impl Fn(usize, usize) -> *const f32,
) {
    for at in 0..tile.inner {
        // SAFETY: the caller's promise.
        unsafe {
            let from = tile.panel.add(at * tile.panel_stride);
            let pair = [V::load(from), V::load(from.add(V::LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = V::splat(*value(row, at));
                *sums = [sums[0].plus_product(value, pair[0]), sums[1].plus_product(value, pair[1])];
            }
        }
    }
}
